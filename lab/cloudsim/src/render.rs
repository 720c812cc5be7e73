//! The JSON shapes of the API, as the generated models of the official SDKs name and nest them
//! (PyPI `alibabacloud-ecs20140526` 7.11, `alibabacloud-vpc20160428` 7.2).

use model::EniStatus;
use serde_json::{Map, Value, json};

use crate::{
    config::RegionConfig,
    instance_types::InstanceType,
    iso,
    refusal::Refusal,
    state::{Eni, kind_word, status_word},
    vswitch::VSwitch,
    world::ROUTE_TABLE,
};

/// What CreateNetworkInterface and DescribeNetworkInterfaces say alike about an ENI.
fn eni_core(config: &RegionConfig, eni: &Eni) -> Map<String, Value> {
    let addresses: Vec<Value> = eni
        .addresses()
        .map(|(address, primary)| json!({ "PrivateIpAddress": address, "Primary": primary }))
        .collect();
    let prefixes: Vec<Value> = eni
        .prefixes
        .iter()
        .map(|prefix| json!({ "Ipv4Prefix": prefix }))
        .collect();
    let tags: Vec<Value> = eni
        .tags
        .iter()
        .map(|(key, value)| json!({ "TagKey": key, "TagValue": value }))
        .collect();
    object(json!({
        "NetworkInterfaceId": eni.id,
        "NetworkInterfaceName": eni.name,
        "Description": eni.description,
        "Type": kind_word(eni.kind),
        "Status": status_word(eni.status),
        "MacAddress": eni.mac,
        "VpcId": config.vpc,
        "VSwitchId": eni.vswitch,
        "ZoneId": eni.zone,
        "PrivateIpAddress": eni.primary,
        "PrivateIpSets": { "PrivateIpSet": addresses },
        "Ipv6Sets": { "Ipv6Set": [] },
        "Ipv4PrefixSets": { "Ipv4PrefixSet": prefixes },
        "Ipv6PrefixSets": { "Ipv6PrefixSet": [] },
        "SecurityGroupIds": { "SecurityGroupId": eni.security_groups },
        "Tags": { "Tag": tags },
        "ResourceGroupId": eni.resource_group,
        "OwnerId": config.owner.to_string(),
        "ServiceManaged": false,
        "SourceDestCheck": eni.source_dest_check,
    }))
}

pub(crate) fn created_eni(config: &RegionConfig, eni: &Eni) -> Map<String, Value> {
    eni_core(config, eni)
}

pub(crate) fn described_eni(config: &RegionConfig, eni: &Eni) -> Value {
    let mut body = eni_core(config, eni);
    // The cloud names the instance from the moment a call names it, in either direction.
    let instance = eni.instance.as_ref().map_or("", |id| id.as_str());
    let attachment = match eni.status {
        EniStatus::Available | EniStatus::Deleting => json!({}),
        _ => json!({
            "InstanceId": instance,
            "DeviceIndex": eni.ride.as_ref().map_or(0, |ride| ride.vlan),
            "NetworkCardIndex": 0,
            "TrunkNetworkInterfaceId": eni.ride.as_ref().map_or("", |ride| ride.trunk.as_str()),
        }),
    };
    body.insert("InstanceId".into(), instance.into());
    body.insert("Attachment".into(), attachment);
    body.insert("AssociatedPublicIp".into(), json!({}));
    body.insert("CreationTime".into(), iso::format(eni.created).into());
    body.insert("DeleteOnRelease".into(), eni.delete_on_release.into());
    body.insert(
        "NetworkInterfaceTrafficMode".into(),
        eni.traffic_mode.into(),
    );
    body.insert("QueueNumber".into(), 0.into());
    Value::Object(body)
}

pub(crate) fn instance_type(row: &InstanceType) -> Value {
    json!({
        "InstanceTypeId": row.id,
        "InstanceTypeFamily": row.family,
        "InstanceFamilyLevel": "EnterpriseLevel",
        "InstanceCategory": "General-purpose",
        "CpuArchitecture": "X86",
        "CpuCoreCount": row.cores,
        "MemorySize": row.memory_gib,
        "EniQuantity": row.limits.enis,
        "EniTotalQuantity": row.limits.enis_total,
        "EniPrivateIpAddressQuantity": row.limits.ipv4_per_eni,
        "EniIpv6AddressQuantity": row.limits.ipv6_per_eni,
        "EniTrunkSupported": row.limits.trunk,
        "EriQuantity": 0,
        "PrimaryEniQueueNumber": row.queues,
        "SecondaryEniQueueNumber": row.queues,
        "MaximumQueueNumberPerEni": row.queues,
        "TotalEniQueueQuantity": row.queues * row.limits.enis,
        "InstanceBandwidthRx": row.bandwidth_kbit,
        "InstanceBandwidthTx": row.bandwidth_kbit,
        "InstancePpsRx": row.packets,
        "InstancePpsTx": row.packets,
        "NvmeSupport": "unsupported",
        "DiskQuantity": 17,
        "LocalStorageCategory": "",
        "GPUAmount": 0,
        "GPUSpec": "",
    })
}

pub(crate) fn vswitch(config: &RegionConfig, vswitch: &VSwitch, free: usize) -> Value {
    json!({
        "VSwitchId": vswitch.spec.id,
        "VSwitchName": vswitch.spec.name,
        "VpcId": config.vpc,
        "ZoneId": vswitch.spec.zone,
        "CidrBlock": vswitch.spec.cidr,
        "Ipv6CidrBlock": "",
        "EnabledIpv6": false,
        "AvailableIpAddressCount": free,
        "Status": "Available",
        "IsDefault": false,
        "Description": "",
        "NetworkAclId": "",
        "OwnerId": config.owner,
        "ResourceGroupId": "",
        "RouteTable": { "RouteTableId": ROUTE_TABLE, "RouteTableType": "System" },
        "Tags": { "Tag": [] },
        // The region's networks are older than its first call.
        "CreationTime": "1970-01-01T00:00:00Z",
    })
}

/// The cloud's error document.
pub(crate) fn refusal(refusal: &Refusal, request_id: &str, host: &str, product: &str) -> Value {
    json!({
        "RequestId": request_id,
        "HostId": host,
        "Code": refusal.code,
        "Message": refusal.message,
        "Recommend": format!(
            "https://api.aliyun.com/troubleshoot?q={}&product={product}&requestId={request_id}",
            refusal.code,
        ),
    })
}

/// The members of a `json!` object.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
