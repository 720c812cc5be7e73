//! The node's side of a pod that stands: compared with its plan, and put back, from outside the pod.
//!
//! Never makes a link: without the sandbox's descriptors its other end could not be put into the pod, and
//! a sandbox that is gone would get half of one. Never knows what is inside a pod.

use model::{
    InterfaceName,
    net::{PodNet, VethPair},
};

use crate::{
    check::{Difference, Side, diff_pod},
    decode::LinkDetail,
    device, encode,
    error::{Error, Result},
    exchange::Request,
    netlink::Netlink,
    object::Object,
    observe::{Observed, link_details, observe},
    pod,
    trunk::Trunk,
};

/// Compares the node's part of a plan, its tags too, with an observation of the node.
///
/// # Errors
/// When the tags cannot be read.
pub fn diff_on_node(trunk: &Trunk, plan: &PodNet, node: &Observed) -> Result<Vec<Difference>> {
    let mut differences = diff_pod(plan, node);
    for tag in &plan.tags {
        let mut links = node.links.iter().map(|seen| &seen.link);
        let index = links.find(|link| link.name == tag.link);
        let index = index.map(|link| link.index);
        // Without the link nobody has the tag.
        if !index.map_or(Ok(false), |index| trunk.has(tag, index))? {
            differences.push(Difference::TagMissing { tag: tag.clone() });
        }
    }
    Ok(differences)
}

/// Whether an end of the plan's pairs is nowhere on the node, under whatever name.
pub fn is_cut_off(plan: &PodNet, node: &Observed) -> bool {
    plan.pairs().any(|pair| {
        let mut links = node.links.iter().map(|seen| &seen.link);
        links.all(|link| link.name != pair.host && link.mac != pair.host_mac)
    })
}

/// Puts back what the plan lacks on the node, and says what that was. Nothing is touched when nothing is
/// missing. A link of the right name with another MAC is taken for the pod's: whoever calls this knows
/// that no other sandbox has one of that name.
///
/// # Errors
/// [`Error::NoLink`] when an end of the pod's pairs is gone; else the first step that failed.
pub fn mend_pod(host: &mut Netlink, trunk: &Trunk, plan: &PodNet) -> Result<Vec<Difference>> {
    let lacked = diff_on_node(trunk, plan, &observe(host)?)?;
    if lacked.is_empty() {
        return Ok(lacked);
    }
    let mut ends = Vec::new();
    for pair in plan.pairs() {
        let index = put_right(host, pair, &lacked)?;
        // Before any route leads its packets to the trunk.
        let tags = plan.tags.iter().filter(|tag| tag.link == pair.host);
        if plan.tags.iter().any(|tag| tag.link == pair.host) {
            trunk.admit(tags, index)?;
        }
        ends.push(index);
    }
    pod::lead_to(host, plan, &ends)?;
    Ok(lacked)
}

/// Gives the node's end of a pair its name, MAC, MTU and group, and sets it up, as far as that is not so.
/// Returns its index.
fn put_right(host: &mut Netlink, pair: &VethPair, lacked: &[Difference]) -> Result<u32> {
    let link = match host.link(&pair.host)? {
        Some(link) => link,
        None => named_back(host, pair)?,
    };
    if !link.veth {
        return Err(Error::NameTaken {
            doing: "putting back",
            link: link.name,
            place: "on the node",
            holder: "a link that is no veth".into(),
        });
    }
    if lacked.iter().any(|it| is_about(it, &pair.host)) {
        let message = encode::restore(link.index, pair);
        let request = Request::new("setting up", Object::Link(&pair.host), &message);
        host.carry_out(&[request], &[])?;
    }
    Ok(link.index)
}

/// The node's end that somebody renamed, under its own name again.
fn named_back(host: &mut Netlink, pair: &VethPair) -> Result<LinkDetail> {
    let mut all = link_details(host)?.into_iter();
    let renamed = all.find(|link| link.veth && link.mac == Some(pair.host_mac));
    let Some(renamed) = renamed else {
        return Err(Error::NoLink {
            doing: "putting back what leads to the pod".into(),
            link: pair.host.clone(),
        });
    };
    device::rename(host, (&renamed.name, renamed.index), &pair.host)?;
    Ok(LinkDetail {
        name: pair.host.clone(),
        ..renamed
    })
}

fn is_about(difference: &Difference, name: &InterfaceName) -> bool {
    match difference {
        Difference::LinkMissing { side, link }
        | Difference::LinkDown { side, link }
        | Difference::LinkMac { side, link, .. }
        | Difference::LinkMtu { side, link, .. }
        | Difference::LinkGroup { side, link, .. } => *side == Side::Node && link == name,
        Difference::AddressMissing { .. }
        | Difference::NeighbourMissing { .. }
        | Difference::RouteMissing { .. }
        | Difference::RuleMissing { .. }
        | Difference::TagMissing { .. }
        | Difference::RuleElsewhere { .. } => false,
    }
}
