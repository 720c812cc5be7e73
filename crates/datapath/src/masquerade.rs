//! What leaves a node of mode VPC for outside the cluster goes with the node's address: nobody out there has
//! a way to the pod's.
//!
//! In table `inet terway`, which is ours alone. Never touches a connection between pods, or a table of
//! somebody else.

use ipnet::IpNet;

use crate::{
    error::Result,
    nftables::{Chain, End, Expressions, Hook, Nftables, Rule, Table},
    return_path::TABLE,
};

const CHAIN: &str = "masquerade";

/// Compares the node with what it should be, and puts it right: packets from inside a block of `inside` to
/// outside of it get the address of the link they leave by; without a block none do. Says whether something
/// had to be done.
///
/// # Errors
/// [`crate::Error::Unsupported`] when the kernel cannot do it, and then nothing was changed; else what it
/// refused.
pub fn keep_masquerade(nftables: &mut Nftables, inside: &[IpNet]) -> Result<bool> {
    let rule = |block: &IpNet| Rule {
        purpose: "pods reach what is outside the cluster",
        expressions: Expressions::default()
            .of_family(*block)
            .address(End::Source, *block, true)
            .address(End::Destination, *block, false)
            .masquerade(true),
    };
    let chain = Chain {
        name: CHAIN,
        hook: Hook::Departure,
        rules: inside.iter().map(rule).collect(),
    };
    nftables.keep(&Table {
        family: None,
        name: TABLE,
        chains: vec![chain],
    })
}
