//! PodENIs as a control plane writes them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use engine::node::Config;
use model::{
    DualStack, EniId, Family, InterfaceName, Mac, PodUid, SecurityGroupId, VSwitchId,
    podeni::{Allocation, Attached, OwnedEni, Phase, PodEni},
    podnetworking::{EniAttachment, Tenure},
};

use super::pod_key;

/// The record of `pod` with `uid`, bound to `trunk` of the configured instance. Pods with an odd number
/// have two interfaces.
pub(crate) fn record(pod: u8, uid: PodUid, config: &Config, trunk: EniId) -> PodEni {
    let mut record = with_one(pod, uid, config, trunk);
    if !pod.is_multiple_of(2) {
        second(&mut record);
    }
    record
}

/// Gives a record eth1 beside eth0: the next /24, a VLAN a hundred higher, the way to 10.8.0.0/16.
pub(crate) fn second(record: &mut PodEni) {
    let mut second = record.allocations[0].clone();
    second.interface = InterfaceName::new("eth1").unwrap();
    let Some(IpAddr::V4(first)) = second.addresses.v4 else {
        panic!("these pods have IPv4 addresses");
    };
    let next = Ipv4Addr::from(u32::from(first) + 256);
    second.addresses = DualStack::only(Family::V4, next.into());
    second.routes = vec!["10.8.0.0/16".parse().unwrap()];
    second.default_route = false;
    let eni = second.eni.as_mut().unwrap();
    let vlan = record.attached[&eni.id].vlan.map(|vlan| vlan + 100);
    eni.id = EniId::new(eni.id.as_str().replace("eni-m", "eni-n")).unwrap();
    record.attached.insert(eni.id.clone(), Attached { vlan });
    record.allocations.push(second);
}

pub(crate) fn with_one(pod: u8, uid: PodUid, config: &Config, trunk: EniId) -> PodEni {
    let eni = EniId::new(format!("eni-m{pod}")).unwrap();
    let address = Ipv4Addr::new(10, 9, 0, pod).into();
    PodEni {
        key: pod_key(pod),
        uid: format!("record-{pod}"),
        version: "1".into(),
        deleting: false,
        held: true,
        pod: uid,
        node: "node-1".into(),
        zone: config.zone.clone(),
        allocations: vec![Allocation {
            interface: InterfaceName::new("eth0").unwrap(),
            tenure: Tenure::Elastic,
            attachment: EniAttachment::Default,
            vswitch: VSwitchId::new("vsw-9").unwrap(),
            blocks: DualStack::only(Family::V4, "10.9.0.0/16".parse().unwrap()),
            security_groups: vec![SecurityGroupId::new("sg-9").unwrap()],
            resource_group: None,
            default_route: true,
            routes: Vec::new(),
            edition: None,
            attempt: 0,
            addresses: DualStack::only(Family::V4, address),
            eni: Some(OwnedEni {
                id: eni.clone(),
                mac: Mac([0, 0x16, 0x3e, 9, 0, pod]),
                vpc: None,
            }),
        }],
        phase: Phase::Bind,
        instance: Some(config.instance.clone()),
        trunk: Some(trunk),
        attached: BTreeMap::from([(
            eni,
            Attached {
                vlan: Some(100 + u16::from(pod)),
            },
        )]),
        last_seen: None,
        message: String::new(),
    }
}
