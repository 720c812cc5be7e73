//! The resources PodNetworking and PodENI: as Kubernetes stores them, and as decisions know them.
//!
//! What comes from the API server is parsed into `model` types here, once; what does not fit is refused with
//! the field's name. Must not know: the API server, watches, who reads or writes.
