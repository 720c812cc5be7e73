//! The control plane: wires the machine of `engine::cluster` and the planners of `engine::admission` to the
//! API server and the cloud. No decision is taken here.

fn main() {}
