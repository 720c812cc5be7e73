//! From the stored object to what decisions know.
//!
//! What an older program may have written in good faith is taken as it meant it; what cannot mean anything
//! is an error, because acting on a guess could delete an ENI in use.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use model::{
    DualStack, EniId, Family, InstanceId, InterfaceName, Mac, PodKey, PodUid, VSwitchId, VpcId,
    ZoneId,
    podeni::{Allocation as Interface, Attached, OwnedEni, Phase, PodEni as Record},
    podnetworking::{EniAttachment, Release, Tenure},
};

use super::{Allocation, Eni, EniInfo, PodEni, PodEniStatus};
use crate::{
    AllocationType, FieldError, keys,
    network::{self, id},
    time,
};

/// The interface every pod has.
pub(super) const ETH0: &str = "eth0";

/// IEEE 802.1Q: 12 bits, of which 0 and 4095 are no VLAN.
const VLANS: std::ops::RangeInclusive<i64> = 1..=4094;

impl TryFrom<&PodEni> for Record {
    type Error = FieldError;

    fn try_from(stored: &PodEni) -> Result<Self, FieldError> {
        let meta = &stored.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (namespace, name) = (text(&meta.namespace), text(&meta.name));
        let key = PodKey::new(&namespace, &name).map_err(|error| {
            FieldError::new(
                "metadata.name",
                format!("{namespace}/{name}"),
                error.to_string(),
            )
        })?;
        let annotations = meta.annotations.as_ref();
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
        let uid = annotation(keys::POD_UID).unwrap_or_default();
        let labels = meta.labels.as_ref();
        let status = stored.status.as_ref();
        let empty = PodEniStatus::default();
        let status = status.unwrap_or(&empty);
        let last_seen = status.pod_last_seen.as_deref();
        let last_seen = last_seen.map(|text| time::parse("status.podLastSeen", text));
        let held = meta.finalizers.iter().flatten();
        Ok(Record {
            key,
            uid: text(&meta.uid),
            version: text(&meta.resource_version),
            deleting: meta.deletion_timestamp.is_some(),
            held: { held }.any(|one| one == keys::FINALIZER || one == keys::FINALIZER_OLD),
            pod: PodUid::new(uid).map_err(|_| {
                let field = format!("annotation {}", keys::POD_UID);
                FieldError::new(field, uid, "expected the UID of the pod it was made for")
            })?,
            node: match annotation(keys::NODE) {
                Some(whole) => whole.into(),
                None => labels
                    .and_then(|all| all.get(keys::NODE))
                    .cloned()
                    .unwrap_or_default(),
            },
            zone: read_zone(stored)?,
            allocations: read_allocations(
                stored,
                by_interface(keys::ENI_ATTEMPTS, annotation(keys::ENI_ATTEMPTS))?,
                by_interface(keys::ENI_EDITIONS, annotation(keys::ENI_EDITIONS))?,
            )?,
            phase: read_phase(&status.phase)?,
            instance: maybe("status.instanceID", &status.instance_id, InstanceId::new)?,
            trunk: maybe("status.trunkENIID", &status.trunk_eni_id, EniId::new)?,
            attached: read_attached(&status.eni_infos)?,
            last_seen: last_seen.transpose()?,
            message: status.msg.clone(),
        })
    }
}

fn maybe<'a, T>(
    field: &str,
    text: &'a str,
    new: impl FnOnce(&'a str) -> Result<T, model::IdError>,
) -> Result<Option<T>, FieldError> {
    match text {
        "" => Ok(None),
        _ => id(field, text, new(text)).map(Some),
    }
}

/// The zone of the record, or of its first ENI where an older program wrote only that.
fn read_zone(stored: &PodEni) -> Result<ZoneId, FieldError> {
    let first = stored.spec.allocations.first();
    let text = match (stored.spec.zone.as_str(), first) {
        ("", Some(first)) => first.eni.zone.as_str(),
        (zone, _) => zone,
    };
    id("spec.zone", text, ZoneId::new(text))
}

fn read_phase(text: &str) -> Result<Phase, FieldError> {
    Ok(match text {
        "" => Phase::Initial,
        "Binding" => Phase::Binding,
        "Bind" => Phase::Bind,
        "Detaching" => Phase::Detaching,
        "Unbind" => Phase::Unbind,
        "Deleting" => Phase::Deleting,
        other => {
            let expected = "expected Binding, Bind, Detaching, Unbind or Deleting";
            return Err(FieldError::new("status.phase", other, expected));
        }
    })
}

/// What an annotation of ours says of each interface.
fn by_interface<T: serde::de::DeserializeOwned>(
    key: &str,
    text: Option<&str>,
) -> Result<BTreeMap<String, T>, FieldError> {
    let Some(text) = text else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(text).map_err(|_| {
        let expected = "expected a value for each interface, as JSON";
        FieldError::new(format!("annotation {key}"), text, expected)
    })
}

fn read_allocations(
    stored: &PodEni,
    attempts: BTreeMap<String, u32>,
    mut editions: BTreeMap<String, String>,
) -> Result<Vec<Interface>, FieldError> {
    let mut all: Vec<Interface> = Vec::new();
    for (at, one) in stored.spec.allocations.iter().enumerate() {
        let field = format!("spec.allocations[{at}]");
        let mut read = read_allocation(&field, one)?;
        if all.iter().any(|before| before.interface == read.interface) {
            let field = format!("{field}.interface");
            return Err(FieldError::new(field, &one.interface, "given twice"));
        }
        let attempt = attempts.get(read.interface.as_str());
        read.attempt = attempt.copied().unwrap_or_default();
        read.edition = editions.remove(read.interface.as_str());
        all.push(read);
    }
    Ok(all)
}

/// An allocation, but for the number of its attempts and its edition, which stand beside it.
pub(super) fn read_allocation(field: &str, one: &Allocation) -> Result<Interface, FieldError> {
    let name = match one.interface.as_str() {
        "" => ETH0,
        name => name,
    };
    let of = |name: &str| format!("{field}.{name}");
    let eni = &one.eni;
    Ok(Interface {
        interface: InterfaceName::new(name)
            .map_err(|error| FieldError::new(of("interface"), name, error.to_string()))?,
        tenure: read_tenure(&of("allocationType"), &one.allocation_type)?,
        attachment: match eni.attachment_options.trunk {
            None => EniAttachment::Default,
            Some(true) => EniAttachment::Trunk,
            Some(false) => EniAttachment::Own,
        },
        vswitch: id(
            &of("eni.vSwitchID"),
            &eni.vswitch_id,
            VSwitchId::new(&eni.vswitch_id),
        )?,
        blocks: families(
            [
                (of("ipv4CIDR"), &one.ipv4_cidr),
                (of("ipv6CIDR"), &one.ipv6_cidr),
            ],
            "a CIDR block",
            |text: &str| text.parse().ok(),
            IpNet::addr,
        )?,
        security_groups: network::read_groups(
            &of("eni.securityGroupIDs"),
            &eni.security_group_ids,
        )?,
        resource_group: Some(eni.resource_group_id.clone()).filter(|text| !text.is_empty()),
        default_route: one.default_route,
        routes: network::read_routes(&of("extraRoutes"), &one.extra_routes)?,
        edition: None,
        attempt: 0,
        addresses: families(
            [(of("ipv4"), &one.ipv4), (of("ipv6"), &one.ipv6)],
            "an address",
            |text: &str| text.parse().ok(),
            |address: &IpAddr| *address,
        )?,
        eni: read_eni(&of("eni"), eni)?,
    })
}

/// What cannot be read as a time is kept: an address once promised is better kept too long than lost.
fn read_tenure(field: &str, stored: &AllocationType) -> Result<Tenure, FieldError> {
    match stored.read(field) {
        Err(_) if stored.kind == "Fixed" => Ok(Tenure::Fixed(Release::Never)),
        read => read,
    }
}

/// A value of each family, where one stands.
fn families<T>(
    texts: [(String, &String); 2],
    what: &str,
    read: impl Fn(&str) -> Option<T>,
    address: impl Fn(&T) -> IpAddr,
) -> Result<DualStack<T>, FieldError> {
    let mut both = DualStack::default();
    for (family, (field, text)) in Family::BOTH.into_iter().zip(texts) {
        if text.is_empty() {
            continue;
        }
        let value = read(text).filter(|value| Family::of(address(value)) == family);
        let bits = family.bits();
        let expected = || FieldError::new(field, text, format!("expected {what} of {bits} bits"));
        both.set(family, value.ok_or_else(expected)?);
    }
    Ok(both)
}

fn read_eni(field: &str, eni: &Eni) -> Result<Option<OwnedEni>, FieldError> {
    let Some(found) = maybe(&format!("{field}.id"), &eni.id, EniId::new)? else {
        return Ok(None);
    };
    let mac: Result<Mac, _> = eni.mac.parse();
    let vpc = maybe(&format!("{field}.vpcID"), &eni.vpc_id, VpcId::new)?;
    Ok(Some(OwnedEni {
        id: found,
        mac: mac.map_err(|_| {
            let expected = "expected the Ethernet address of the ENI, six hexadecimal octets";
            FieldError::new(format!("{field}.mac"), &eni.mac, expected)
        })?,
        vpc,
    }))
}

/// The ENIs that are on the node; those that were are not of interest.
fn read_attached(
    infos: &BTreeMap<String, EniInfo>,
) -> Result<BTreeMap<EniId, Attached>, FieldError> {
    let mut attached = BTreeMap::new();
    for (key, info) in infos.iter().filter(|(_, info)| info.status == "Bind") {
        let field = format!("status.eniInfos[{key}]");
        let vid = info.vid.filter(|vid| *vid != 0);
        let vlan = vid.map(|vid| {
            let vlan = VLANS.contains(&vid).then_some(vid);
            let vlan = vlan.and_then(|vid| u16::try_from(vid).ok());
            let expected = "expected a VLAN, 1 to 4094";
            vlan.ok_or_else(|| FieldError::new(format!("{field}.vid"), vid.to_string(), expected))
        });
        let vlan = vlan.transpose()?;
        if info.kind == "Member" && vlan.is_none() {
            let expected = "a member of a trunk has a VLAN";
            return Err(FieldError::new(format!("{field}.vid"), "", expected));
        }
        attached.insert(id(&field, key, EniId::new(key))?, Attached { vlan });
    }
    Ok(attached)
}
