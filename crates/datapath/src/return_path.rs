//! The way back of what came in by the node's own ENI: its connection is marked, answers of pods take
//! the mark over, and a rule sends what is marked to the main table.
//!
//! Never touches another bit of a mark, a table of somebody else, or a rule that is not ours.

use model::{
    Family,
    net::{MARK_RETURN, RULE_PRIORITY_RETURN, ReturnPath, TABLE_MAIN},
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use crate::{
    encode::{self, OURS},
    error::Result,
    exchange::{IfPresent, Request},
    netlink::Netlink,
    nftables::{Chain, Direction, Expressions, Hook, Nftables, Rule, Table},
    object::Object,
};

pub(crate) const TABLE: &str = "terway";
const CHAIN: &str = "return_path";

/// Compares the node with `plan` and puts back what is missing; safe to repeat, and connections keep
/// their marks. Returns what was missing, as `nft` and `ip` name it.
///
/// # Errors
/// [`crate::Error::Unsupported`] when the kernel cannot do it, and then nothing was changed; else the
/// first step that failed.
pub fn keep_return_path(
    host: &mut Netlink,
    nftables: &mut Nftables,
    plan: &ReturnPath,
) -> Result<Vec<String>> {
    let mut lacked = Vec::new();
    let table = table(plan);
    if nftables.keep(&table)? {
        lacked.push(table.to_string());
    }
    lacked.extend(keep_rules(host, &plan.families)?);
    Ok(lacked)
}

/// Makes sure that what is marked goes by the main table; says which rules were missing.
pub(crate) fn keep_rules(host: &mut Netlink, families: &[Family]) -> Result<Vec<String>> {
    let mut lacked = Vec::new();
    let present = host.list(
        "rules",
        &RouteNetlinkMessage::GetRule(RuleMessage::default()),
    )?;
    for family in families.iter().copied() {
        let wanted = rule(family);
        if present.iter().any(|found| is(found, &wanted)) {
            continue;
        }
        let object = Object::ReturnRule(family);
        lacked.push(object.to_string());
        let message = RouteNetlinkMessage::NewRule(wanted);
        // A twin without our protocol id may be there: it is somebody else's and may go at any time.
        host.carry_out(
            &[Request::create(object, &message, IfPresent::Duplicate)],
            &[],
        )?;
    }
    Ok(lacked)
}

/// Answers of pods take over the mark of their connection.
pub(crate) fn answers(pod_links: &str) -> Rule {
    Rule {
        purpose: "answer it the way it came",
        expressions: Expressions::default()
            .came_by_any(pod_links)
            .goes(Direction::Reply)
            .connection_has(MARK_RETURN)
            .mark_packet(MARK_RETURN),
    }
}

/// What came in keeps its mark as long as its connection lives. Every packet of that way sets it, not
/// the first alone, so that connections older than the table find back too.
fn table(plan: &ReturnPath) -> Table {
    let remember = Rule {
        purpose: "remember what came in by the node's own ENI",
        expressions: Expressions::default()
            .came_by(&plan.uplink)
            .goes(Direction::Original)
            .mark_connection(MARK_RETURN),
    };
    Table {
        family: None,
        name: TABLE,
        chains: vec![Chain {
            name: CHAIN,
            hook: Hook::Arrival,
            rules: vec![remember, answers(&plan.pod_links)],
        }],
    }
}

fn rule(family: Family) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = encode::family(family);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(RULE_PRIORITY_RETURN),
        RuleAttribute::FwMark(MARK_RETURN),
        RuleAttribute::FwMask(MARK_RETURN),
        RuleAttribute::Table(TABLE_MAIN),
        RuleAttribute::Protocol(OURS),
    ];
    message
}

/// Whether `found` is `wanted`; the kernel adds attributes that say nothing.
fn is(found: &RouteNetlinkMessage, wanted: &RuleMessage) -> bool {
    let RouteNetlinkMessage::NewRule(found) = found else {
        return false;
    };
    let [here, there] = [found, wanted].map(|rule| {
        let header = &rule.header;
        (
            header.family,
            header.action,
            (header.src_len, header.dst_len, header.tos),
            header.flags,
        )
    });
    let whole = |attribute| found.attributes.contains(attribute);
    here == there && wanted.attributes.iter().all(whole)
}
