//! What the senders do on a network, against a server on loopback.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod client;
mod metadata;
mod server;
