//! Pods that get an ENI of their own.

use super::*;
use crate::explain::own_eni::{ControlPlane, OwnEni, Record};

/// The usual pod gets an ENI of its own; what there is of it so far.
fn own_eni(facts: &mut Facts, record: Seen<Record>, ready: Option<i32>, trunk: bool) {
    facts.agent = said(json!({ "state": "waiting", "missing": "its PodENI" }));
    facts.own_eni = Some(OwnEni {
        record,
        control_plane: ready.map_or(Seen::Absent, |ready| {
            Seen::Is(ControlPlane { wanted: 2, ready })
        }),
        trunk: Seen::Is(trunk),
    });
}

fn record(phase: &str, message: &str) -> Seen<Record> {
    Seen::Is(Record {
        phase: phase.into(),
        message: message.into(),
        pod_uid: "u".into(),
        ..Record::default()
    })
}

pub(super) const OWN_ENIS: [Case; 10] = [
    case(
        "no control plane",
        HasNot,
        &["no control plane makes it", "not installed"],
        |f| own_eni(f, Seen::Absent, None, true),
    ),
    case(
        "control plane down",
        HasNot,
        &["0 of 2 are", "logs deployment/"],
        |f| own_eni(f, record("Binding", "waiting for the ENI"), Some(0), true),
    ),
    case(
        "being attached",
        HasNot,
        &["in phase Binding", "to be attached to node-1"],
        |f| {
            own_eni(
                f,
                record("Binding", "waiting for the ENI to be attached to node-1"),
                Some(2),
                true,
            )
        },
    ),
    case(
        "refused",
        HasNot,
        &["Forbidden.RAM", "grant the RAM action"],
        |f| {
            let text = "the ENI for eth0 was not made: CreateNetworkInterface was refused with Forbidden.RAM";
            own_eni(f, record("", text), Some(1), true);
        },
    ),
    case(
        "told by an event only",
        HasNot,
        &["no PodENI is there yet", "no free address", "add a vSwitch"],
        |f| {
            own_eni(f, Seen::Absent, Some(2), true);
            f.events = event(
                "PodENIWaiting",
                "no vSwitch serves zone z: vsw-1 has no free address",
            );
        },
    ),
    case(
        "no trunk",
        HasNot,
        &["has no trunk ENI", "enable_eni_trunking"],
        |f| own_eni(f, Seen::Absent, Some(2), false),
    ),
    case(
        "of the pod before it",
        HasNot,
        &["that of the pod before it", "a PodENI of its own"],
        |f| {
            own_eni(f, record("Bind", ""), Some(2), true);
            pod(f).uid = "another".into();
        },
    ),
    case("going", HasNot, &["is being deleted"], |f| {
        let Seen::Is(mut one) = record("Bind", "") else {
            return;
        };
        one.deleting = true;
        own_eni(f, Seen::Is(one), Some(2), true);
    }),
    case(
        "bound, and the agent is at it",
        HasNot,
        &["waits for an address on its node"],
        |f| own_eni(f, record("Bind", ""), Some(2), true),
    ),
    case(
        "may not be asked",
        HasNot,
        &[
            "waits for an address on its node",
            "its PodENI",
            "forbidden",
        ],
        |f| own_eni(f, unknown("forbidden"), Some(2), true),
    ),
];
