//! The way to Services of pods with an ENI wholly their own. What such a pod asks of the node is marked as
//! it comes in, so that the answers of pods beside it stay on the node; and it leaves under the node's
//! address, because no other link may bear the pod's.
//!
//! Its links are told by their group, so nothing here changes as pods come and go. Never touches a table
//! of somebody else.

use model::{
    Family,
    net::{MARK_RETURN, ServicePath},
};

use crate::{
    error::Result,
    netlink::Netlink,
    nftables::{Chain, Direction, Expressions, Hook, Nftables, Rule, Table},
    return_path::{answers, keep_rules},
};

const TABLE: &str = "terway_own_eni";

/// Compares the node with `plan` and puts back what is missing; safe to repeat, and connections keep
/// their marks and translations. Returns what was missing, as `nft` and `ip` name it.
///
/// # Errors
/// [`crate::Error::Unsupported`] when the kernel cannot do it; else the first step that failed.
pub fn keep_service_path(
    host: &mut Netlink,
    nftables: &mut Nftables,
    plan: &ServicePath,
) -> Result<Vec<String>> {
    let mut lacked = Vec::new();
    for family in &plan.families {
        let table = table(plan, *family);
        if nftables.keep(&table)? {
            lacked.push(table.to_string());
        }
    }
    lacked.extend(keep_rules(host, &plan.families)?);
    Ok(lacked)
}

/// A table of one family: before 5.2 only those can translate.
fn table(plan: &ServicePath, family: Family) -> Table {
    let asked = Rule {
        purpose: "remember what a pod with an ENI of its own asks by the node",
        expressions: Expressions::default()
            .came_by_group(plan.group)
            .goes(Direction::Original)
            .mark_connection(MARK_RETURN)
            .mark_packet(MARK_RETURN),
    };
    // Answers never come here: only the first packet of a connection is translated anew.
    let onward = Rule {
        purpose: "send it on under the node's address",
        expressions: Expressions::default()
            .packet_has(MARK_RETURN)
            .masquerade(false),
    };
    let inward = Rule {
        purpose: "let such a pod answer to the node",
        expressions: Expressions::default()
            .leaves_by_group(plan.group)
            .masquerade(false),
    };
    Table {
        family: Some(family),
        name: TABLE,
        chains: vec![
            Chain {
                name: "asked",
                hook: Hook::Arrival,
                rules: vec![asked, answers(&plan.pod_links)],
            },
            Chain {
                name: "source",
                hook: Hook::Departure,
                rules: vec![onward, inward],
            },
        ],
    }
}
