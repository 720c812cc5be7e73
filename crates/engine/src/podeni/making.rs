//! From a pod that has a node to a record whose ENIs exist.

use model::{
    ClientToken, DualStack, Exhausted, FaultClass, IdError, Timestamp, ZoneId,
    podeni::{Allocation, NetworkRequest, Phase, PodEni},
    podnetworking::EniAttachment,
};
use sha1::{Digest, Sha1};

use super::{
    Call, CreateEni, Node, Observed, Plan, Pod, Step, earlier,
    progress::{Progress, Requested, settles},
    vswitch::{self, Choice},
};

/// The record of a pod that has none. It names vSwitch and security groups of each ENI before the first
/// of them is asked for.
pub(super) fn record(now: Timestamp, pod: &Pod, seen: &Observed<'_>) -> Plan {
    let Some(node) = seen.node else {
        return Plan::wait(None, "waiting for the node of the pod to be known");
    };
    let mut allocations = Vec::new();
    for request in &pod.networks {
        if request.tenure.is_fixed() && !pod.stable_name {
            return Plan::wait(
                None,
                "a fixed address needs a pod whose name stays (of a StatefulSet): this one's does not",
            );
        }
        if let Some(why) = trunk_missing(request, node) {
            return Plan::wait(None, why);
        }
        let spare = seen.spares.get(&request.interface);
        if let Some(ready) = spare.and_then(|spare| spare.ready.as_ref()) {
            allocations.push(draw(ready, request));
            continue;
        }
        match choose(now, pod, request, node, seen) {
            Ok(allocation) => allocations.push(Allocation {
                edition: spare.map(|spare| spare.edition.clone()),
                ..allocation
            }),
            Err(plan) => return plan,
        }
    }
    Plan::step(Step::Create(Box::new(PodEni {
        key: pod.key.clone(),
        uid: String::new(),
        version: String::new(),
        deleting: false,
        held: true,
        pod: pod.uid.clone(),
        node: node.name.clone(),
        zone: node.zone.clone(),
        allocations,
        phase: Phase::Initial,
        instance: None,
        trunk: None,
        attached: std::collections::BTreeMap::new(),
        last_seen: None,
        message: String::new(),
    })))
}

/// An ENI that is there already, for this interface.
fn draw(ready: &Allocation, request: &NetworkRequest) -> Allocation {
    Allocation {
        interface: request.interface.clone(),
        default_route: request.default_route,
        routes: request.routes.clone(),
        // A token of this record was never used for it.
        attempt: 0,
        ..ready.clone()
    }
}

fn trunk_missing(request: &NetworkRequest, node: &Node) -> Option<String> {
    let needed = request.attachment == EniAttachment::Trunk && node.trunk.is_none();
    needed.then(|| {
        format!(
            "node {} has no trunk ENI (no annotation k8s.aliyun.com/trunk-on): its agent makes one when \
             eni_conf key enable_eni_trunking is true and the instance type can have one",
            node.name
        )
    })
}

fn choose(
    now: Timestamp,
    pod: &Pod,
    request: &NetworkRequest,
    node: &Node,
    seen: &Observed<'_>,
) -> Result<Allocation, Plan> {
    let choice = vswitch::choose(
        now,
        &request.vswitches,
        request.preference,
        &node.zone,
        seen.vswitches,
        seed(pod.uid.as_str()),
    );
    match choice {
        Choice::Take { vswitch, blocks } => Ok(Allocation {
            interface: request.interface.clone(),
            tenure: request.tenure,
            attachment: request.attachment,
            vswitch,
            blocks,
            security_groups: request.security_groups.clone(),
            resource_group: request.resource_group.clone(),
            default_route: request.default_route,
            routes: request.routes.clone(),
            edition: None,
            attempt: 0,
            addresses: DualStack::default(),
            eni: None,
        }),
        Choice::None { until, why } => Err(Plan::wait(until, why)),
    }
}

/// FNV-1a: the same pod always draws the same lot.
fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The ENIs of a record that do not exist yet.
pub(super) fn enis(
    now: Timestamp,
    record: &PodEni,
    seen: &Observed<'_>,
    progress: &Progress,
) -> Plan {
    let mut next = record.clone();
    let (mut calls, mut whys, mut until) = (Vec::new(), Vec::new(), None::<Timestamp>);
    for allocation in next.allocations.iter_mut().filter(|one| one.eni.is_none()) {
        match progress.request(now, &allocation.interface, allocation.attempt) {
            Requested::Busy => {}
            Requested::Never | Requested::Unknown => ask(record, allocation, &mut calls, &mut whys),
            Requested::Made(_) => adopt(now, allocation, progress),
            Requested::Refused {
                fault, again, due, ..
            } => {
                let zone = &record.zone;
                whys.push(format!(
                    "the ENI for {} was not made: {}",
                    allocation.interface, fault.text
                ));
                match retry(now, fault.class, due, allocation, seen, zone) {
                    Retry::Same => ask(record, allocation, &mut calls, &mut whys),
                    Retry::Changed => {}
                    Retry::Later => until = earlier(until, Some(again)),
                    Retry::Full(full) => until = earlier(until, full),
                }
            }
        }
    }
    let why = (!whys.is_empty()).then(|| whys.join("; "));
    // What is known now is written before anything else is asked for: each id counts.
    let step = if next.allocations != record.allocations {
        if next.allocations.iter().all(super::made) {
            next.phase = Phase::Binding;
        }
        Step::Write(Box::new(next))
    } else if calls.is_empty() {
        Step::Wait(until)
    } else {
        Step::Call(calls)
    };
    Plan { step, why }
}

/// Names the ENI that was made for an allocation that has none, if one was.
pub(super) fn adopt(now: Timestamp, allocation: &mut Allocation, progress: &Progress) {
    let request = progress.request(now, &allocation.interface, allocation.attempt);
    if let (None, Requested::Made(new)) = (&allocation.eni, request) {
        allocation.eni = Some(new.eni.clone());
        allocation.addresses = new.addresses;
    }
}

fn ask(record: &PodEni, allocation: &Allocation, calls: &mut Vec<Call>, whys: &mut Vec<String>) {
    match create(&record.uid, allocation) {
        Ok(call) => calls.push(call),
        Err(error) => whys.push(error.to_string()),
    }
}

enum Retry {
    /// The same request under the same token.
    Same,
    /// The allocation was changed and must be written first.
    Changed,
    /// Not yet.
    Later,
    /// Not before the vSwitch may have an address again: when that is described, without a time.
    Full(Option<Timestamp>),
}

fn retry(
    now: Timestamp,
    class: FaultClass,
    due: bool,
    allocation: &mut Allocation,
    seen: &Observed<'_>,
    zone: &ZoneId,
) -> Retry {
    let elsewhere = class == FaultClass::Exhausted(Exhausted::VSwitch);
    // An address that was promised lies in the vSwitch it came from.
    let free_to_move = allocation.addresses.is_empty();
    if elsewhere && free_to_move && other_vswitch(now, allocation, seen, zone) {
        allocation.attempt += 1;
        return Retry::Changed;
    }
    let known = seen.vswitches.get(&allocation.vswitch);
    if let Some(full) = known.filter(|one| elsewhere && one.is_full(now)) {
        return Retry::Full(Some(full.full_until).filter(|at| *at > now));
    }
    if !due {
        return Retry::Later;
    }
    if settles(class) {
        // The cloud answers a token with what it answered before, a refusal too.
        allocation.attempt += 1;
        return Retry::Changed;
    }
    Retry::Same
}

/// Moves an allocation whose vSwitch is full to another that serves, if the pod's own request names one.
fn other_vswitch(
    now: Timestamp,
    allocation: &mut Allocation,
    seen: &Observed<'_>,
    zone: &ZoneId,
) -> bool {
    let asked = seen.pod.and_then(|pod| {
        let mut networks = pod.networks.iter();
        networks.find(|one| one.interface == allocation.interface)
    });
    let Some(asked) = asked else { return false };
    let choice = vswitch::choose(
        now,
        &asked.vswitches,
        asked.preference,
        zone,
        seen.vswitches,
        0,
    );
    match choice {
        Choice::Take { vswitch, blocks } if vswitch != allocation.vswitch => {
            (allocation.vswitch, allocation.blocks) = (vswitch, blocks);
            true
        }
        _ => false,
    }
}

/// The request for an allocation's ENI. The token is the allocation's identity: asked again, after a crash
/// too, the cloud answers with the ENI it made for it.
pub(super) fn create(uid: &str, allocation: &Allocation) -> Result<Call, IdError> {
    let identity = format!("{uid}/{}/{}", allocation.interface, allocation.attempt);
    let digest = Sha1::digest(identity);
    let token: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Call::Create(Box::new(CreateEni {
        interface: allocation.interface.clone(),
        attempt: allocation.attempt,
        token: ClientToken::new(token)?,
        vswitch: allocation.vswitch.clone(),
        addresses: allocation.addresses,
        security_groups: allocation.security_groups.clone(),
        resource_group: allocation.resource_group.clone(),
        edition: allocation.edition.clone(),
        delete_on_release: !allocation.tenure.is_fixed(),
    })))
}
