//! What a PodENI gives its pod: an interface for each allocation, judged as a whole, because half of what
//! a pod asked for is a pod that works until it is used.
//!
//! Must never know what stands on the node.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use model::{
    DualStack, Family, InterfaceName,
    podeni::{Allocation, OwnedEni, PodEni},
};

use super::own::is_whole;
use crate::{
    ledger::{Lent, Member, Reach},
    netplan::{HOST_PEER, LocalTraffic},
};

/// One interface of a pod, and the ENI it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) interface: InterfaceName,
    pub(super) addresses: DualStack<IpAddr>,
    pub(super) member: Member,
}

/// What the node adds to a record.
pub(super) struct Terms<'a> {
    pub(super) local: LocalTraffic,
    /// The device of an ENI, or what is missing as the end of a sentence about the record.
    pub(super) lend: &'a dyn Fn(&OwnedEni) -> Result<Lent, String>,
}

/// All interfaces of a pod whose record says Bind: the one the runtime asked for, and those beside it in
/// the record's order. Else what is wrong with the record, as the end of a sentence about it.
pub(super) fn allot(
    record: &PodEni,
    asked: &InterfaceName,
    terms: &Terms<'_>,
) -> Result<(Granted, Vec<Granted>), String> {
    let mut all = Vec::with_capacity(record.allocations.len());
    for allocation in &record.allocations {
        all.push(grant(record, allocation, terms)?);
    }
    once_each(&all)?;
    one_sort(&all)?;
    let Some(first) = all.iter().position(|one| one.interface == *asked) else {
        let names: Vec<_> = all.iter().map(|one| one.interface.as_str()).collect();
        return Err(match names.as_slice() {
            [] => "names no interface".into(),
            names => format!("has an ENI for {} and none for {asked}", names.join(", ")),
        });
    };
    let mut first = all.remove(first);
    // As in the Go Terway: where no interface is said to be the way out, the pod's own is.
    let mut said = all.iter().map(|one| one.member.default_route);
    first.member.default_route |= !said.any(|it| it);
    one_way_to_each(&first, &all)?;
    Ok((first, all))
}

fn grant(record: &PodEni, from: &Allocation, terms: &Terms<'_>) -> Result<Granted, String> {
    let name = &from.interface;
    let Some(eni) = &from.eni else {
        return Err(format!("names no ENI for {name}"));
    };
    let attached = record.attached.get(&eni.id);
    let reach = match attached.and_then(|it| it.vlan) {
        None if attached.is_some() && is_whole(record, from) => Reach::Device((terms.lend)(eni)?),
        Some(vlan) if !is_whole(record, from) => Reach::Vlan(vlan),
        Some(_) => {
            return Err(format!(
                "names a VLAN for {} of {name}, which is its own",
                eni.id
            ));
        }
        None if is_whole(record, from) => {
            return Err(format!(
                "does not say that {} of {name} is attached",
                eni.id
            ));
        }
        None => {
            return Err(format!(
                "names no VLAN of the trunk for {} of {name}",
                eni.id
            ));
        }
    };
    if from.addresses.is_empty() {
        return Err(format!("names no address for {name}"));
    }
    for to in &from.routes {
        let family = Family::of(to.addr());
        if from.addresses.get(family).is_none() {
            return Err(format!(
                "sends {to} by {name}, which has no {family:?} address"
            ));
        }
    }
    Ok(Granted {
        interface: name.clone(),
        addresses: from.addresses,
        member: Member {
            eni: eni.id.clone(),
            reach,
            subnet: from.blocks,
            default_route: from.default_route,
            // As the kernel has it: 10.9.1.0/16 and 10.9.0.0/16 are one destination.
            routes: from.routes.iter().map(IpNet::trunc).collect(),
            local: terms.local,
        },
    })
}

/// Names, ENIs and addresses stand for one interface each.
fn once_each(all: &[Granted]) -> Result<(), String> {
    let (mut names, mut enis, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for one in all {
        let name = &one.interface;
        if !names.insert(name) {
            return Err(format!("names {name} twice"));
        }
        if !enis.insert(&one.member.eni) {
            return Err(format!("gives {} to {name} and to another", one.member.eni));
        }
        for (_, address) in one.addresses.iter() {
            if !addresses.insert(*address) {
                return Err(format!("gives {address} to {name} and to another"));
            }
        }
    }
    Ok(())
}

/// All ENIs are members of the trunk, or none: what the two sorts need on the node excludes the other.
fn one_sort(all: &[Granted]) -> Result<(), String> {
    let (members, whole): (Vec<&Granted>, Vec<_>) =
        all.iter().partition(|one| one.member.vlan().is_some());
    if let (Some(member), Some(whole)) = (members.first(), whole.first()) {
        return Err(format!(
            "gives {} a member of the trunk and {} a whole ENI; all must be of one sort",
            member.interface, whole.interface
        ));
    }
    match whole.iter().any(|one| one.interface.as_str() == HOST_PEER) {
        true => Err(format!(
            "names an interface {HOST_PEER}, which is the pod's way to the node"
        )),
        false => Ok(()),
    }
}

/// A destination is reached by one interface; the default route is one to everything.
fn one_way_to_each(first: &Granted, further: &[Granted]) -> Result<(), String> {
    let mut ways: Vec<(Option<IpNet>, &InterfaceName)> = Vec::new();
    for one in std::iter::once(first).chain(further) {
        let default = one.member.default_route.then_some(None);
        let all = one.member.routes.iter();
        let all = all.map(|to| Some(*to).filter(|to| to.prefix_len() > 0));
        for to in default.into_iter().chain(all) {
            let before = ways.iter().find(|(other, _)| *other == to);
            match before.filter(|(_, by)| *by != &one.interface) {
                None => ways.push((to, &one.interface)),
                Some((_, by)) => {
                    let what = to.map_or("the default route".into(), |to| format!("{to}"));
                    return Err(format!("sends {what} by {by} and by {}", one.interface));
                }
            }
        }
    }
    Ok(())
}
