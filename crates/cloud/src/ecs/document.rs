//! An ENI as the API writes it, in the answer of a create and in each entry of a describe.

use std::{collections::BTreeMap, net::IpAddr};

use model::{Eni, EniKind, EniStatus, Ipv4Prefix, PrivateIp};
use serde::Deserialize;

use super::DescribedEni;
use crate::{
    DecodeError,
    document::{id, nested_list, optional_id, unexpected, value},
};

nested_list!(PrivateIpSet, "PrivateIpSet");
nested_list!(Ipv6Set, "Ipv6Set");
nested_list!(Ipv4PrefixSet, "Ipv4PrefixSet");
nested_list!(SecurityGroupId, "SecurityGroupId");
nested_list!(Tag, "Tag");

/// The fields we read. Those that are not `Option` must be there: without its addresses or its
/// vSwitch an ENI would look like one that lost them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EniDocument {
    network_interface_id: String,
    mac_address: String,
    #[serde(rename = "Type")]
    kind: String,
    status: String,
    instance_id: Option<String>,
    attachment: Option<AttachmentDocument>,
    v_switch_id: String,
    vpc_id: Option<String>,
    zone_id: String,
    security_group_ids: Option<SecurityGroupId<String>>,
    private_ip_address: Option<String>,
    private_ip_sets: PrivateIpSet<PrivateIpDocument>,
    ipv6_sets: Option<Ipv6Set<Ipv6Document>>,
    // Came with prefixes; a private cloud that is older has neither.
    ipv4_prefix_sets: Option<Ipv4PrefixSet<PrefixDocument>>,
    tags: Option<Tag<TagDocument>>,
    source_dest_check: Option<bool>,
}

/// Where an ENI is attached. The API leaves the fields out, or empty, as they do not apply.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct AttachmentDocument {
    instance_id: Option<String>,
    device_index: Option<i64>,
    trunk_network_interface_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrivateIpDocument {
    private_ip_address: String,
    primary: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipv6Document {
    ipv6_address: String,
    primary: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrefixDocument {
    ipv4_prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagDocument {
    tag_key: String,
    // A tag may have no value, which some answers write by leaving the field out.
    #[serde(default)]
    tag_value: String,
}

pub(super) fn prefix(field: &'static str, text: &str) -> Result<Ipv4Prefix, DecodeError> {
    value(field, text, "an IPv4 block with 28 bits of mask")
}

impl EniDocument {
    pub(super) fn read(self) -> Result<DescribedEni, DecodeError> {
        let (addresses, prefixes) = (self.addresses()?, self.prefixes()?);
        let attachment = self.attachment.unwrap_or_default();
        let instance = match optional_id("InstanceId", self.instance_id)? {
            Some(instance) => Some(instance),
            None => optional_id("Attachment.InstanceId", attachment.instance_id)?,
        };
        let groups = self.security_group_ids.map_or(Vec::new(), |set| set.items);
        let tags = self.tags.map_or(Vec::new(), |set| set.items);
        let eni = Eni {
            id: id("NetworkInterfaceId", self.network_interface_id)?,
            mac: self.mac_address.parse().map_err(DecodeError::Mac)?,
            kind: kind(&self.kind)?,
            status: status(&self.status)?,
            instance,
            vswitch: id("VSwitchId", self.v_switch_id)?,
            vpc: optional_id("VpcId", self.vpc_id)?,
            zone: id("ZoneId", self.zone_id)?,
            security_groups: groups
                .into_iter()
                .map(|group| id("SecurityGroupId", group))
                .collect::<Result<_, _>>()?,
            addresses,
            prefixes,
            tags: tags
                .into_iter()
                .map(|tag| (tag.tag_key, tag.tag_value))
                .collect::<BTreeMap<_, _>>(),
        };
        Ok(DescribedEni {
            eni,
            device_index: attachment
                .device_index
                .and_then(|index| u32::try_from(index).ok()),
            trunk: optional_id(
                "TrunkNetworkInterfaceId",
                attachment.trunk_network_interface_id,
            )?,
            source_dest_check: self.source_dest_check.unwrap_or(false),
        })
    }

    fn prefixes(&self) -> Result<Vec<Ipv4Prefix>, DecodeError> {
        let listed = self.ipv4_prefix_sets.iter().flat_map(|set| &set.items);
        listed
            .map(|entry| prefix("Ipv4Prefix", &entry.ipv4_prefix))
            .collect()
    }

    /// All private addresses, IPv4 first, each once.
    fn addresses(&self) -> Result<Vec<PrivateIp>, DecodeError> {
        let mut addresses = Vec::new();
        for entry in &self.private_ip_sets.items {
            // An entry without the flag is told apart by the ENI's own address; without that either,
            // an address that must never reach a pod cannot be recognised.
            let primary = entry
                .primary
                .or_else(|| Some(*self.private_ip_address.as_ref()? == entry.private_ip_address));
            addresses.push(PrivateIp {
                address: IpAddr::V4(value(
                    "PrivateIpAddress",
                    &entry.private_ip_address,
                    "an IPv4 address",
                )?),
                primary: primary.ok_or_else(|| {
                    unexpected(
                        "Primary",
                        "",
                        "true or false, or the ENI's PrivateIpAddress",
                    )
                })?,
            });
        }
        for entry in self.ipv6_sets.iter().flat_map(|set| &set.items) {
            addresses.push(PrivateIp {
                address: IpAddr::V6(value(
                    "Ipv6Address",
                    &entry.ipv6_address,
                    "an IPv6 address",
                )?),
                // Without the flag an IPv6 address is an ordinary one: an ENI has a primary IPv6
                // address only when it was asked for (EnablePrimaryIPv6).
                primary: entry.primary.unwrap_or(false),
            });
        }
        Ok(addresses)
    }
}

fn kind(text: &str) -> Result<EniKind, DecodeError> {
    match text {
        "Primary" => Ok(EniKind::Primary),
        "Secondary" => Ok(EniKind::Secondary),
        "Trunk" => Ok(EniKind::Trunk),
        "Member" => Ok(EniKind::Member),
        other => Err(unexpected(
            "Type",
            other,
            "Primary, Secondary, Trunk or Member",
        )),
    }
}

fn status(text: &str) -> Result<EniStatus, DecodeError> {
    match text {
        "Available" => Ok(EniStatus::Available),
        "Attaching" => Ok(EniStatus::Attaching),
        "InUse" => Ok(EniStatus::InUse),
        "Detaching" => Ok(EniStatus::Detaching),
        "Deleting" => Ok(EniStatus::Deleting),
        other => Err(unexpected(
            "Status",
            other,
            "Available, Attaching, InUse, Detaching or Deleting",
        )),
    }
}

pub(super) const fn kind_name(kind: EniKind) -> &'static str {
    match kind {
        EniKind::Primary => "Primary",
        EniKind::Secondary => "Secondary",
        EniKind::Trunk => "Trunk",
        EniKind::Member => "Member",
    }
}

pub(super) const fn status_name(status: EniStatus) -> &'static str {
    match status {
        EniStatus::Available => "Available",
        EniStatus::Attaching => "Attaching",
        EniStatus::InUse => "InUse",
        EniStatus::Detaching => "Detaching",
        EniStatus::Deleting => "Deleting",
    }
}
