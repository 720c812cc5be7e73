//! The additions to a new pod.

use std::collections::BTreeSet;

use model::{
    InterfaceName, ZoneId,
    podeni::NetworkRequest,
    podnetworking::{EniAttachment, PodNetworking, SECURITY_GROUPS_MAX},
};

use super::{Additions, Asked, Named, NewPod, Resource, Standing, Verdict};

/// Longest name of an interface in a pod: kernel names end at 15, and names made from this one for the
/// node's side must stay unique within that.
pub const INTERFACE_LENGTH_MAX: usize = 5;

/// The interface every pod has.
const ETH0: &str = "eth0";

/// What is added to `pod`, or why it may not be created so.
pub fn admit_pod(pod: &NewPod, standing: &Standing<'_>) -> Verdict {
    if pod.host_network || pod.ignored {
        return Verdict::Unchanged(Vec::new());
    }
    match admit(pod, standing) {
        Ok(verdict) => verdict,
        Err(why) => Verdict::Denied(why),
    }
}

fn admit(pod: &NewPod, standing: &Standing<'_>) -> Result<Verdict, String> {
    let mut warnings = Vec::new();
    let (networking, mut networks) = match asked(pod)? {
        Asked::Networks(networks) => (None, networks.clone()),
        Asked::Named(named) => (None, by_name(named, standing)?),
        Asked::Networking(name) => {
            let found = ready(name, standing)?;
            (Some(name.clone()), vec![of(found, ETH0)?])
        }
        Asked::Nothing => match selected(pod, standing, &mut warnings) {
            Some(found) => (Some(found.name.clone()), vec![of(found, ETH0)?]),
            None if pod.wants_eni => (None, vec![bare()?]),
            None => return Ok(Verdict::Unchanged(warnings)),
        },
    };
    for network in &mut networks {
        fill(network, standing);
    }
    judge(pod, &networks)?;
    let zones = zones(pod, &networks, standing, &mut warnings)?;
    let member = standing.trunk
        && networks
            .iter()
            .all(|one| one.attachment != EniAttachment::Own);
    let resource = match member {
        true => Resource::MemberEni,
        false => Resource::Eni,
    };
    let count = networks.len();
    Ok(Verdict::Changed(Box::new(Additions {
        networking,
        networks,
        resource: standing.inject_resource.then_some((resource, count)),
        zones,
        warnings,
    })))
}

/// The one thing the pod says about its networks. Our own answer stands beside what it was made from: the
/// name of a PodNetworking, or the interfaces by such names; the networks then count.
fn asked(pod: &NewPod) -> Result<&Asked, String> {
    match pod.asked.as_slice() {
        [] => Ok(&Asked::Nothing),
        [one] => Ok(one),
        [one, other] if pod.wants_eni => match (one, other) {
            (networks @ Asked::Networks(all), from) | (from, networks @ Asked::Networks(all))
                if made_from(all, from) =>
            {
                Ok(networks)
            }
            _ => Err(exclusive()),
        },
        _ => Err(exclusive()),
    }
}

/// Whether these networks can be our answer to that.
fn made_from(networks: &[NetworkRequest], from: &Asked) -> bool {
    match from {
        Asked::Networking(_) => true,
        Asked::Named(named) => {
            let names = named.iter().map(|one| one.interface.as_str());
            networks.iter().map(|one| one.interface.as_str()).eq(names)
        }
        Asked::Nothing | Asked::Networks(_) => false,
    }
}

fn exclusive() -> String {
    "only one of the annotations k8s.aliyun.com/pod-networks, k8s.aliyun.com/pod-networks-request and \
     k8s.aliyun.com/pod-networking may be given"
        .into()
}

fn ready<'a>(name: &str, standing: &Standing<'a>) -> Result<&'a PodNetworking, String> {
    let found = standing.networkings.get(name);
    let found = found.ok_or_else(|| format!("PodNetworking {name} does not exist"))?;
    match (found.is_ready(), &found.resolved) {
        (true, _) => Ok(found),
        (false, Some(resolved)) => {
            let why = &resolved.message;
            Err(format!("PodNetworking {name} is not Ready: {why}"))
        }
        (false, None) => Err(format!("PodNetworking {name} was not looked at yet")),
    }
}

fn by_name(named: &[Named], standing: &Standing<'_>) -> Result<Vec<NetworkRequest>, String> {
    let mut networks: Vec<NetworkRequest> = Vec::new();
    for one in named {
        let found = ready(&one.networking, standing)?;
        if found.pods.is_some() || found.namespaces.is_some() {
            return Err(format!(
                "PodNetworking {} has a selector, so no pod may ask for it by name",
                found.name
            ));
        }
        let mut network = of(found, &one.interface)?;
        network.default_route = one.default_route;
        network.routes.clone_from(&one.routes);
        if networks
            .first()
            .is_some_and(|first| first.attachment != network.attachment)
        {
            return Err(
                "the PodNetworkings of one pod must have the same eniOptions.eniType".into(),
            );
        }
        networks.push(network);
    }
    Ok(networks)
}

/// The PodNetworking that selects the pod: the first by name, so that the choice does not depend on the
/// order of a list.
fn selected<'a>(
    pod: &NewPod,
    standing: &Standing<'a>,
    warnings: &mut Vec<String>,
) -> Option<&'a PodNetworking> {
    let all = standing.networkings.values();
    let matching = all.filter(|one| one.selects(&pod.labels, &pod.namespace_labels));
    let (matching, barred): (Vec<_>, Vec<_>) =
        matching.partition(|one| is_for(one, pod.stable_name));
    if matching.is_empty() && !pod.wants_eni {
        warnings.extend(barred.into_iter().find_map(needs_a_name));
    }
    let (mut first, mut others) = (None, Vec::new());
    for one in matching {
        match (first, one.is_ready()) {
            (None, true) => first = Some(one),
            (Some(_), true) => others.push(one.name.clone()),
            (_, false) => others.push(format!("{} (not Ready)", one.name)),
        }
    }
    if !others.is_empty() {
        let others = others.join(", ");
        warnings.push(match first {
            Some(first) => format!(
                "the pod is also selected by PodNetworking {others}; {} is used, the first by name that is \
                 Ready",
                first.name
            ),
            None => format!(
                "the pod is selected by PodNetworking {others}: it gets an address of the node's shared ENIs"
            ),
        });
    }
    first
}

/// Whether pods of this sort may have what the PodNetworking gives: a fixed one is for names that stay.
pub(crate) fn is_for(networking: &PodNetworking, stable_name: bool) -> bool {
    stable_name || !networking.tenure.is_fixed()
}

/// What the author of a pod is told whose name does not stay and that a PodNetworking with fixed addresses selects;
/// nothing where that selects whole namespaces, and so means only some of their pods.
pub(crate) fn needs_a_name(networking: &PodNetworking) -> Option<String> {
    networking.pods.as_ref()?;
    Some(format!(
        "PodNetworking {} gives fixed addresses, which only a pod whose name stays can have (of a StatefulSet, or \
         of a kind in customStatefulWorkloadKinds): this pod has an address of the node's shared ENIs",
        networking.name
    ))
}

/// What the author of a pod is told that a PodNetworking selects which cannot be used.
pub(crate) fn not_usable(networking: &PodNetworking) -> String {
    let why = match &networking.resolved {
        Some(resolved) => resolved.message.as_str(),
        None => "its vSwitches were not looked at yet",
    };
    format!(
        "PodNetworking {} selects this pod but is not Ready: {why}; the pod has an address of the node's shared \
         ENIs until it is created again",
        networking.name
    )
}

fn of(networking: &PodNetworking, interface: &str) -> Result<NetworkRequest, String> {
    Ok(NetworkRequest {
        interface: InterfaceName::new(interface).map_err(|error| error.to_string())?,
        tenure: networking.tenure,
        attachment: networking.attachment,
        vswitches: networking.vswitches.clone(),
        preference: networking.preference,
        security_groups: networking.security_groups.clone(),
        resource_group: None,
        default_route: false,
        routes: Vec::new(),
    })
}

/// A pod that says no more than that it wants an ENI.
fn bare() -> Result<NetworkRequest, String> {
    Ok(NetworkRequest {
        interface: InterfaceName::new(ETH0).map_err(|error| error.to_string())?,
        tenure: model::podnetworking::Tenure::Elastic,
        attachment: EniAttachment::Default,
        vswitches: Vec::new(),
        preference: model::podnetworking::VSwitchPreference::Ordered,
        security_groups: Vec::new(),
        resource_group: None,
        default_route: false,
        routes: Vec::new(),
    })
}

/// What eth0 leaves open comes from `eni_conf`; other interfaces exist because they differ from it.
fn fill(network: &mut NetworkRequest, standing: &Standing<'_>) {
    if network.interface.as_str() != ETH0 {
        return;
    }
    if network.vswitches.is_empty() {
        let all = standing.defaults.vswitches.values().flatten();
        network.vswitches = all.cloned().collect();
    }
    if network.security_groups.is_empty() {
        let groups = &standing.defaults.security_groups;
        network.security_groups.clone_from(groups);
    }
}

fn judge(pod: &NewPod, networks: &[NetworkRequest]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for network in networks {
        let name = &network.interface;
        if name.as_str().len() > INTERFACE_LENGTH_MAX {
            return Err(format!(
                "interface name {name} is too long: at most {INTERFACE_LENGTH_MAX} characters"
            ));
        }
        if !names.insert(name) {
            return Err(format!("interface name {name} is given twice"));
        }
        if network.vswitches.is_empty() {
            return Err(format!(
                "interface {name} has no vSwitch: name one under vSwitchOptions"
            ));
        }
        let groups = network.security_groups.len();
        if groups == 0 || groups > SECURITY_GROUPS_MAX {
            return Err(format!(
                "interface {name} has {groups} security groups: 1 to {SECURITY_GROUPS_MAX} are possible"
            ));
        }
        if network.tenure.is_fixed() && !pod.stable_name {
            return Err(format!(
                "interface {name} asks for a fixed address, which only a pod whose name stays can have (of a \
                 StatefulSet, or of a kind in customStatefulWorkloadKinds)"
            ));
        }
    }
    Ok(())
}

/// The zones in which every interface finds a vSwitch, and the zone a kept address lies in.
fn zones(
    pod: &NewPod,
    networks: &[NetworkRequest],
    standing: &Standing<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Vec<ZoneId>>, String> {
    let of_network = |network: &NetworkRequest| -> BTreeSet<ZoneId> {
        let zones = network.vswitches.iter();
        zones
            .filter_map(|id| standing.zones.get(id))
            .cloned()
            .collect()
    };
    let mut common: Option<BTreeSet<ZoneId>> = None;
    for zones in networks.iter().map(of_network) {
        common = Some(match common {
            None => zones,
            Some(before) => before.intersection(&zones).cloned().collect(),
        });
    }
    let common = common.unwrap_or_default();
    if common.is_empty() && networks.len() > 1 {
        return Err(
            "the vSwitches of the pod's interfaces have no zone in common, so no node can serve it"
                .into(),
        );
    }
    let kept = networks.iter().any(|one| one.tenure.is_fixed());
    let previous = pod.previous_zone.as_ref().filter(|_| kept);
    if let Some(previous) = previous.filter(|zone| !common.is_empty() && !common.contains(*zone)) {
        warnings.push(format!(
            "the pod's fixed address lies in zone {previous}, where its PodNetworking has no vSwitch any more: \
             no node can serve it until the PodENI is deleted"
        ));
    }
    if pod.of_daemon_set {
        return Ok(Vec::new());
    }
    let common: Vec<ZoneId> = common.into_iter().collect();
    let lists = [previous.map(|zone| vec![zone.clone()]), Some(common)];
    Ok(lists
        .into_iter()
        .flatten()
        .filter(|list| !list.is_empty())
        .collect())
}
