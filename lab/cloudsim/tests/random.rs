//! Random lives of a region: whatever is called in whatever order, its laws hold.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use cloudsim::{Effect, Ride, RunError, instance_type};
use model::{EniId, EniKind, EniStatus, InstanceId};
use support::{ECS, Lab};

/// Seeds and calls: a second of work, and every call in every state of an ENI many times over.
const SEEDS: u64 = 60;
const CALLS: usize = 150;

/// The vSwitch with a reserved block, where there is one.
const RESERVING: &str = "vsw-bp1labh";

/// SplitMix64, so that a seed printed by a failure is the whole story.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick(&mut self, from: &[String]) -> String {
        if from.is_empty() {
            "none".into()
        } else {
            from[self.below(from.len())].clone()
        }
    }
}

/// The network as somebody sees it who knows effects only.
#[derive(Default)]
struct Wires {
    owners: BTreeMap<IpAddr, EniId>,
    links: BTreeMap<EniId, InstanceId>,
    rides: BTreeMap<EniId, Ride>,
}

impl Wires {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Own { address, eni } => assert_eq!(
                self.owners.insert(address, eni),
                None,
                "{address} has two owners"
            ),
            Effect::Disown { address, eni } => {
                assert_eq!(self.owners.remove(&address), Some(eni), "{address}")
            }
            Effect::Plug { eni, instance, .. } => {
                assert_eq!(self.links.insert(eni, instance), None)
            }
            Effect::PlugMember {
                eni,
                instance,
                ride,
                ..
            } => {
                assert_eq!(self.links.get(&ride.trunk), Some(&instance));
                assert_eq!(self.links.insert(eni.clone(), instance), None);
                self.rides.insert(eni, ride);
            }
            Effect::Unplug { eni, instance } => {
                assert_eq!(self.links.remove(&eni), Some(instance));
                self.rides.remove(&eni);
                let left = self.rides.values().find(|ride| ride.trunk == eni);
                assert_eq!(left, None, "members leave first");
            }
            Effect::SourceDestCheck { .. } | Effect::Join { .. } => {}
            other => panic!("no call asked for {other:?}"),
        }
    }
}

fn check(lab: &mut Lab, wires: &mut Wires) {
    while let Some(effect) = lab.region.poll_effect() {
        wires.apply(effect);
    }
    let snapshot = lab.region.snapshot();
    let mut seen = BTreeSet::new();
    let mut macs = BTreeSet::new();
    for eni in &snapshot.enis {
        assert!(macs.insert(eni.mac), "one MAC, one ENI");
        let own = eni.secondary.iter().chain([&eni.primary]);
        let own = own.map(|address| IpAddr::V4(*address));
        for address in own.chain(eni.prefixes.iter().flat_map(|prefix| prefix.addresses())) {
            assert!(seen.insert(address), "{address} is on two ENIs");
            assert_eq!(wires.owners.get(&address), Some(&eni.id));
        }
        let plugged = matches!(eni.status, EniStatus::InUse | EniStatus::Detaching);
        assert_eq!(
            wires.links.get(&eni.id),
            eni.instance.as_ref().filter(|_| plugged),
            "{eni:?}"
        );
        let ride = eni.ride.as_ref();
        assert_eq!(wires.rides.get(&eni.id), ride.filter(|_| plugged));
        assert_eq!(ride.is_some(), eni.kind == EniKind::Member, "{eni:?}");
        assert_eq!(
            eni.instance.is_some(),
            !matches!(eni.status, EniStatus::Available | EniStatus::Deleting)
        );
    }
    assert_eq!(
        seen.len(),
        wires.owners.len(),
        "nothing is owned that no ENI has"
    );
    for vswitch in &snapshot.vswitches {
        let taken = seen
            .iter()
            .filter(|address| IpNet::from(vswitch.cidr).contains(*address))
            .count();
        // The first vSwitch keeps 64 addresses for prefixes, and those come out of them.
        let reserved = if vswitch.id.as_str() == RESERVING {
            64
        } else {
            0
        };
        let on_it = snapshot.enis.iter().filter(|eni| eni.vswitch == vswitch.id);
        let prefixed: usize = on_it.map(|eni| 16 * eni.prefixes.len()).sum();
        assert!(prefixed <= reserved, "{}", vswitch.id);
        let size = 1_usize << (32 - vswitch.cidr.prefix_len());
        assert_eq!(
            vswitch.free,
            size - 4 - reserved - (taken - prefixed),
            "{}",
            vswitch.id
        );
        assert!(!seen.contains(&IpAddr::V4(vswitch.gateway)));
    }
    for instance in &snapshot.instances {
        let limits = instance_type(&instance.instance_type).unwrap().limits;
        let on: Vec<_> = snapshot
            .enis
            .iter()
            .filter(|eni| eni.instance.as_ref() == Some(&instance.id))
            .collect();
        let rides: Vec<_> = on.iter().filter_map(|eni| eni.ride.as_ref()).collect();
        let (members, links) = (rides.len(), on.len() - rides.len());
        let most = (limits.enis, limits.enis_total - limits.enis);
        assert!(
            links <= most.0 as usize && members <= most.1 as usize,
            "{links} ENIs and {members} members on a {}",
            instance.instance_type
        );
        let vlans: BTreeSet<_> = rides.iter().map(|ride| (&ride.trunk, ride.vlan)).collect();
        assert_eq!(vlans.len(), members, "a VLAN is one member's");
        assert_eq!(
            on.iter().filter(|eni| eni.kind == EniKind::Primary).count(),
            1
        );
        for eni in on {
            assert!(
                eni.secondary.len() + eni.prefixes.len() < limits.ipv4_per_eni as usize,
                "{eni:?}"
            );
            assert_eq!(eni.zone, instance.zone);
        }
    }
}

fn step(lab: &mut Lab, random: &mut Random) {
    let snapshot = lab.region.snapshot();
    let enis: Vec<String> = snapshot.enis.iter().map(|eni| eni.id.to_string()).collect();
    let instances: Vec<String> = snapshot
        .instances
        .iter()
        .map(|instance| instance.id.to_string())
        .collect();
    let (eni, instance) = (random.pick(&enis), random.pick(&instances));
    let held = snapshot.enis.iter().find(|found| found.id.as_str() == eni);
    let held: Vec<String> = held
        .into_iter()
        .flat_map(|eni| &eni.secondary)
        .map(ToString::to_string)
        .collect();
    let prefixes = snapshot
        .enis
        .iter()
        .filter(|found| found.id.as_str() == eni);
    let prefixes: Vec<String> = prefixes
        .flat_map(|eni| &eni.prefixes)
        .map(ToString::to_string)
        .collect();
    let prefix = random.pick(&prefixes);
    let (address, count) = (random.pick(&held), (1 + random.below(7)).to_string());
    let vswitch = ["vsw-bp1labh", "vsw-bp1labi"][random.below(2)];
    let id = ("NetworkInterfaceId", eni.as_str());
    let call: (&str, Vec<(&str, &str)>) = match random.below(21) {
        0 | 1 => (
            "CreateNetworkInterface",
            vec![
                ("VSwitchId", vswitch),
                ("SecurityGroupId", "sg-bp1lab"),
                ("SecondaryPrivateIpAddressCount", &count),
            ],
        ),
        2 | 3 => (
            "AttachNetworkInterface",
            vec![id, ("InstanceId", &instance)],
        ),
        4 => (
            "DetachNetworkInterface",
            vec![id, ("InstanceId", &instance)],
        ),
        5 => ("DeleteNetworkInterface", vec![id]),
        6 | 7 => (
            "AssignPrivateIpAddresses",
            vec![id, ("SecondaryPrivateIpAddressCount", &count)],
        ),
        8 => (
            "UnassignPrivateIpAddresses",
            vec![id, ("PrivateIpAddress.1", &address)],
        ),
        12 => (
            "CreateNetworkInterface",
            vec![
                ("VSwitchId", RESERVING),
                ("SecurityGroupId", "sg-bp1lab"),
                ("Ipv4PrefixCount", &count),
            ],
        ),
        13 => (
            "AssignPrivateIpAddresses",
            vec![id, ("Ipv4PrefixCount", &count)],
        ),
        14 => (
            "UnassignPrivateIpAddresses",
            vec![id, ("Ipv4Prefix.1", &prefix)],
        ),
        9 if instances.len() < 4 => {
            let run = lab.run(["ecs.g6.large", "ecs.g7.xlarge"][random.below(2)], vswitch);
            assert!(
                matches!(run, Ok(_) | Err(RunError::VSwitchFull(_))),
                "{run:?}"
            );
            return;
        }
        15..=20 => return trunk_step(lab, random, &eni, &instance),
        10 if random.below(6) == 0 && !instances.is_empty() => {
            let instance = InstanceId::new(instance).unwrap();
            assert!(lab.region.release_instance(lab.now, &instance));
            return;
        }
        _ => {
            lab.pass(1);
            return;
        }
    };
    lab.answer(ECS, call.0, &call.1);
}

/// Something with trunks and members.
fn trunk_step(lab: &mut Lab, random: &mut Random, eni: &str, instance: &str) {
    let enis = lab.region.snapshot().enis;
    let trunks = enis.iter().filter(|eni| eni.kind == EniKind::Trunk);
    let trunks: Vec<String> = trunks.map(|eni| eni.id.to_string()).collect();
    let trunk = random.pick(&trunks);
    let host = enis.iter().find(|eni| eni.id.as_str() == trunk);
    let host = host.and_then(|trunk| trunk.instance.as_ref());
    let host = host.map_or(instance, InstanceId::as_str);
    let riding = [
        ("NetworkInterfaceId", eni),
        ("InstanceId", host),
        ("TrunkNetworkInstanceId", &trunk),
    ];
    let made = [
        ("VSwitchId", "vsw-bp1labh"),
        ("SecurityGroupId", "sg-bp1lab"),
        ("InstanceType", "Trunk"),
    ];
    let plugged = [("NetworkInterfaceId", &*trunk), ("InstanceId", instance)];
    match random.below(6) {
        0 => lab.answer(ECS, "CreateNetworkInterface", &made),
        1 => lab.answer(ECS, "AttachNetworkInterface", &plugged),
        2 => lab.answer(ECS, "DetachNetworkInterface", &riding),
        _ => lab.answer(ECS, "AttachNetworkInterface", &riding),
    };
}

#[test]
fn the_laws_hold_whatever_is_called() {
    let mut rode = 0;
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        let mut lab = Lab::with(|config| {
            config.seed = seed;
            // One that runs out within a run.
            config.vswitches[1].cidr = "10.0.2.0/27".parse().unwrap();
            config.vswitches[0].reserved = vec!["10.0.1.128/26".parse().unwrap()];
        });
        let (mut random, mut wires) = (Random(seed), Wires::default());
        for _ in 0..CALLS {
            step(&mut lab, &mut random);
            check(&mut lab, &mut wires);
            rode += wires.rides.len();
        }
    }
    assert!(rode > 100, "members were on trunks {rode} times");
}

#[test]
fn the_same_calls_give_the_same_region_twice() {
    let live = || {
        let (mut lab, mut random) = (Lab::new(), Random(5));
        for _ in 0..CALLS {
            step(&mut lab, &mut random);
        }
        let calls: Vec<_> = lab.region.calls().cloned().collect();
        (lab.region.snapshot(), calls)
    };
    assert_eq!(live(), live());
}
