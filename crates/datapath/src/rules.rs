//! Policy rules. They have no key: the kernel takes the same rule twice and asks the older first, so
//! a rule that an earlier owner of the address left would win over ours.
//!
//! Never touches a rule without our protocol id: a deletion without it would take the first rule that
//! fits, since the kernel ignores what a deletion does not mention.

use model::net::Rule;
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    encode,
    error::Result,
    exchange::{IfPresent, Outcome, Request},
    netlink::{
        Netlink,
        io_errno::{EEXIST, ENOENT},
    },
    object::Object,
    observe,
};

/// Requests that add the rules of a pod that has no traffic yet: each is preceded by the removal of
/// whatever rule of ours has its priority and selector, which costs less than reading all rules.
pub(crate) fn add_to_new_pod(rules: &[Rule]) -> Result<Vec<Request<'_>>> {
    let mut requests = Vec::with_capacity(rules.len() * 2);
    for rule in rules {
        requests.push(delete_in_any_table(rule)?);
        requests.push(add(rule, IfPresent::Refuse)?);
    }
    Ok(requests)
}

/// Judges the outcomes of [`add_to_new_pod`]: `false` when the kernel held something under these
/// selectors already, and only [`reconcile`] can tell what.
pub(crate) fn added_cleanly(outcomes: Vec<Outcome>, requests: &[Request<'_>]) -> Result<bool> {
    let mut clean = true;
    for (pair, requests) in outcomes_in_pairs(outcomes).zip(requests.chunks(2)) {
        let ([deletion, addition], [delete, add]) = (pair, requests) else {
            continue;
        };
        clean &= deletion.is_refusal(ENOENT);
        deletion.accept(delete, &[ENOENT])?;
        clean &= !addition.is_refusal(EEXIST);
        addition.accept(add, &[EEXIST])?;
    }
    Ok(clean)
}

fn outcomes_in_pairs(outcomes: Vec<Outcome>) -> impl Iterator<Item = [Outcome; 2]> {
    let mut outcomes = outcomes.into_iter();
    std::iter::from_fn(move || Some([outcomes.next()?, outcomes.next()?]))
}

/// Makes exactly one of each of `rules` ours, and removes ours that lead the same packets to another
/// table. The right rule is added before a wrong one is removed, so a pod with traffic is never
/// without.
pub(crate) fn reconcile(netlink: &mut Netlink, rules: &[Rule]) -> Result<()> {
    replace(netlink, rules, same_packets)
}

/// The same, and removes every other rule of ours that leads to or from an address one of `rules` names.
pub(crate) fn settle(netlink: &mut Netlink, rules: &[Rule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let of = |rule: &Rule| rule.from.or(rule.to);
    replace(netlink, rules, |one, other| of(one) == of(other))
}

/// Adds what is missing of `rules`, then removes what is there twice or is a rival of one of them.
fn replace(
    netlink: &mut Netlink,
    rules: &[Rule],
    rival: impl Fn(&Rule, &Rule) -> bool,
) -> Result<()> {
    let present = observe::rules(netlink)?;
    let mut requests = Vec::new();
    for rule in rules.iter().filter(|rule| !present.contains(rule)) {
        // A twin without our mark may be there: it is somebody else's and may go at any time.
        requests.push(add(rule, IfPresent::Duplicate)?);
    }
    let mut seen = Vec::new();
    for rule in &present {
        let wanted = rules.contains(rule);
        if wanted && !seen.contains(&rule) {
            seen.push(rule);
        } else if wanted || rules.iter().any(|plan| rival(plan, rule)) {
            requests.push(delete(rule)?);
        }
    }
    netlink.carry_out(&requests, &[ENOENT])
}

/// Whether two rules ask for the same packets at the same place.
pub(crate) fn same_packets(one: &Rule, other: &Rule) -> bool {
    // Most differ here, and a copy of each costs more than a node of many pods should pay.
    if (one.priority, one.from, one.to) != (other.priority, other.from, other.to) {
        return false;
    }
    let table = other.table;
    Rule {
        table,
        ..one.clone()
    } == *other
}

fn add(rule: &Rule, if_present: IfPresent) -> Result<Request<'_>> {
    let message = RouteNetlinkMessage::NewRule(encode::rule(rule)?);
    Ok(Request::create(Object::Rule(rule), &message, if_present))
}

/// Removes one rule of ours with the priority and selector of `rule`, whatever table it names: whoever
/// removes a pod may not know any more which ENI, and so which table, it had.
pub(crate) fn delete_in_any_table(rule: &Rule) -> Result<Request<'_>> {
    let message = RouteNetlinkMessage::DelRule(encode::rule_in_any_table(rule)?);
    Ok(Request::new(
        "deleting",
        Object::RuleInAnyTable(rule),
        &message,
    ))
}

/// Removes one rule of ours that is exactly `rule`.
pub(crate) fn delete(rule: &Rule) -> Result<Request<'_>> {
    let message = RouteNetlinkMessage::DelRule(encode::rule(rule)?);
    Ok(Request::new("deleting", Object::Rule(rule), &message))
}
