//! What a PodENI gives its pod: an interface for each allocation, judged as a whole, because half of what
//! a pod asked for is a pod that works until it is used.
//!
//! Must never know what stands on the node.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use model::{
    DualStack, Family, InterfaceName,
    podeni::{Allocation, PodEni},
    podnetworking::EniAttachment,
};

use crate::{ledger::Member, netplan::LocalTraffic};

/// One interface of a pod, and the ENI it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) interface: InterfaceName,
    pub(super) addresses: DualStack<IpAddr>,
    pub(super) member: Member,
}

/// All interfaces of a pod whose record says Bind: the one the runtime asked for, and those beside it in
/// the record's order. Else what is wrong with the record, as the end of a sentence about it.
pub(super) fn allot(
    record: &PodEni,
    asked: &InterfaceName,
    local: LocalTraffic,
) -> Result<(Granted, Vec<Granted>), String> {
    let mut all = Vec::with_capacity(record.allocations.len());
    for allocation in &record.allocations {
        all.push(grant(record, allocation, local)?);
    }
    once_each(&all)?;
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

fn grant(record: &PodEni, from: &Allocation, local: LocalTraffic) -> Result<Granted, String> {
    let name = &from.interface;
    if from.attachment == EniAttachment::Own {
        return Err(format!(
            "gives {name} an ENI that is no member of a trunk, and this release serves members only"
        ));
    }
    let Some(eni) = &from.eni else {
        return Err(format!("names no ENI for {name}"));
    };
    let vlan = record.attached.get(&eni.id).and_then(|it| it.vlan);
    let Some(vlan) = vlan else {
        return Err(format!(
            "names no VLAN of the trunk for {} of {name}",
            eni.id
        ));
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
            vlan,
            subnet: from.blocks,
            default_route: from.default_route,
            // As the kernel has it: 10.9.1.0/16 and 10.9.0.0/16 are one destination.
            routes: from.routes.iter().map(IpNet::trunc).collect(),
            local,
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
