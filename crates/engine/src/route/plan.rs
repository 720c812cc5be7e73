//! From the nodes there are and the entries there are to what each node lacks and which entries of ours
//! nobody needs. It must know neither time nor what was done before.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::{InstanceId, NextHop, RouteEntry, RouteEntryId};

use super::message::{Obstacle, RouteNode, Standing};

/// What the table is and lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// How it stands about each node.
    pub(super) standings: BTreeMap<String, Standing>,
    /// Entries to be made, by block: node and instance.
    pub(super) missing: BTreeMap<IpNet, (String, InstanceId)>,
    /// Entries of ours that lead to where no node with that block is, and their blocks.
    pub(super) astray: BTreeMap<RouteEntryId, IpNet>,
    /// Entries the cloud still works on, and whether each is ours. It takes no other change meanwhile.
    pub(super) in_motion: BTreeMap<RouteEntryId, bool>,
}

/// Compares. Only entries called `name` are ours.
pub(super) fn plan(
    name: &str,
    nodes: &BTreeMap<String, RouteNode>,
    entries: &[RouteEntry],
) -> Plan {
    let ours = |entry: &&RouteEntry| entry.name == name;
    let table: BTreeMap<IpNet, &RouteEntry> = entries
        .iter()
        .map(|entry| (entry.destination.trunc(), entry))
        .collect();
    let holders = holders(nodes, &table);
    let mut plan = Plan {
        in_motion: entries
            .iter()
            .filter(|entry| !entry.available)
            .map(|entry| (entry.id.clone(), ours(&entry)))
            .collect(),
        ..Plan::default()
    };
    for (node, spec) in nodes {
        let mut worst = Standing::Reachable;
        for block in spec.blocks.iter().map(IpNet::trunc) {
            let standing = match holders.get(&block) {
                Some(holder) if *holder != node => {
                    let why = format!("its podCIDR {block} is that of node {holder} too");
                    Standing::Blocked(Obstacle::Conflict, why)
                }
                _ => one(name, spec, block, table.get(&block).copied()),
            };
            if standing == Standing::Missing && !table.contains_key(&block) {
                let wanted = (node.clone(), spec.instance.clone());
                plan.missing.insert(block, wanted);
            }
            worst = worst.max(standing);
        }
        plan.standings.insert(node.clone(), worst);
    }
    for entry in entries.iter().filter(ours) {
        let block = entry.destination.trunc();
        let holder = holders.get(&block).and_then(|holder| nodes.get(*holder));
        let right = holder.is_some_and(|node| leads_to(entry, &node.instance));
        if !right {
            plan.astray.insert(entry.id.clone(), block);
        }
    }
    plan
}

/// Which node has each block. Two can have the same only by mistake; then the one the table leads to
/// keeps it, and the first by name before there is an entry.
fn holders<'a>(
    nodes: &'a BTreeMap<String, RouteNode>,
    table: &BTreeMap<IpNet, &RouteEntry>,
) -> BTreeMap<IpNet, &'a String> {
    let mut holders = BTreeMap::new();
    for (name, node) in nodes {
        for block in node.blocks.iter().map(IpNet::trunc) {
            let entry = table.get(&block);
            let led_to = entry.is_some_and(|entry| leads_to(entry, &node.instance));
            if led_to || !holders.contains_key(&block) {
                holders.insert(block, name);
            }
        }
    }
    holders
}

fn one(name: &str, node: &RouteNode, block: IpNet, entry: Option<&RouteEntry>) -> Standing {
    match entry {
        None => Standing::Missing,
        // Whoever made it: it does what is needed.
        Some(entry) if leads_to(entry, &node.instance) => match entry.available {
            true => Standing::Reachable,
            false => Standing::Pending,
        },
        Some(entry) if entry.name == name => Standing::Missing,
        Some(entry) => {
            let to = match &entry.next_hop {
                NextHop::Instance(instance) => instance.as_str(),
                NextHop::Other(what) => what,
            };
            let why = format!(
                "the route table has {} for its podCIDR {block}, which is not ours and leads to {to}",
                entry.id
            );
            Standing::Blocked(Obstacle::Conflict, why)
        }
    }
}

fn leads_to(entry: &RouteEntry, instance: &InstanceId) -> bool {
    matches!(&entry.next_hop, NextHop::Instance(hop) if hop == instance)
}
