//! PodENI: the record of the ENIs of one pod.

mod read;
mod write;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AllocationType, Route};

pub use write::Halves;

/// Fields other programs may have put there; they stay.
type Others = BTreeMap<String, Value>;

/// The ENIs of the pod with this namespace and name.
#[expect(
    clippy::duplicated_attributes,
    reason = "two printed columns may have the same type and priority"
)]
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "network.alibabacloud.com",
    version = "v1beta1",
    kind = "PodENI",
    root = "PodEni",
    plural = "podenis",
    singular = "podeni",
    namespaced,
    status = "PodEniStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The ENIs of the pod with this namespace and name. Kept by terway-controlplane: not to be edited. Deleting it gives a fixed address up.",
    annotation("crd.network.alibabacloud.com/version", "v0.5.0"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "IP", type_ = "string", json_path = ".spec.allocations[0].ipv4"),
    printcolumn(
        name = "ENI",
        type_ = "string",
        json_path = ".spec.allocations[0].eni.id"
    ),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = r".metadata.labels.k8s\.aliyun\.com/node"
    ),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.msg"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.allocations[0].allocationType.type",
        priority = 1
    ),
    printcolumn(
        name = "IPv6",
        type_ = "string",
        json_path = ".spec.allocations[0].ipv6",
        priority = 1
    ),
    printcolumn(
        name = "Zone",
        type_ = "string",
        json_path = ".spec.zone",
        priority = 1
    ),
    printcolumn(
        name = "Instance",
        type_ = "string",
        json_path = ".status.instanceID",
        priority = 1
    ),
    printcolumn(
        name = "Trunk",
        type_ = "string",
        json_path = ".status.trunkENIID",
        priority = 1
    ),
    printcolumn(
        name = "LastSeen",
        type_ = "date",
        json_path = ".status.podLastSeen",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PodEniSpec {
    /// The pod's interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<Allocation>,
    /// The zone in which its ENIs can be used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// One interface of the pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// For how long the address belongs to the pod.
    #[serde(default)]
    pub allocation_type: AllocationType,
    /// The ENI.
    #[serde(default)]
    pub eni: Eni,
    /// Its IPv4 address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// The IPv4 block of its vSwitch.
    #[serde(rename = "ipv4CIDR", default, skip_serializing_if = "String::is_empty")]
    pub ipv4_cidr: String,
    /// The IPv6 block of its vSwitch.
    #[serde(rename = "ipv6CIDR", default, skip_serializing_if = "String::is_empty")]
    pub ipv6_cidr: String,
    /// Its name in the pod; eth0 when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Whether the pod's default route goes by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_route: bool,
    /// Further destinations that go by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_routes: Vec<Route>,
    /// What other programs keep with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_config: BTreeMap<String, String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub others: Others,
}

/// An ENI, and what it is made with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Eni {
    /// Its id; empty until the cloud made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its VPC.
    #[serde(rename = "vpcID", default, skip_serializing_if = "String::is_empty")]
    pub vpc_id: String,
    /// Its Ethernet address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// The vSwitch its addresses come from.
    #[serde(
        rename = "vSwitchID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub vswitch_id: String,
    /// The resource group it is billed under.
    #[serde(
        rename = "resourceGroupID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub resource_group_id: String,
    /// Its security groups.
    #[serde(
        rename = "securityGroupIDs",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub security_group_ids: Vec<String>,
    /// How it is attached.
    #[serde(default)]
    pub attachment_options: AttachmentOptions,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub others: Others,
}

/// How an ENI is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttachmentOptions {
    /// As a member of the node's trunk (true) or on its own (false); without it, by the trunk where the node
    /// has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<bool>,
}

/// Where the ENIs are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodEniStatus {
    /// Empty when just made, then Binding, Bind, Detaching, Unbind, Deleting.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["", "Binding", "Bind", "Detaching", "Unbind", "Deleting"]))]
    pub phase: String,
    /// The instance they are or were last attached to.
    #[serde(
        rename = "instanceID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub instance_id: String,
    /// The trunk they are or were last attached to.
    #[serde(
        rename = "trunkENIID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub trunk_eni_id: String,
    /// What is being waited for, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub msg: String,
    /// When the pod was last seen; kept for fixed addresses only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub pod_last_seen: Option<String>,
    /// Each ENI by its id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eni_infos: BTreeMap<String, EniInfo>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub others: Others,
}

/// Where one ENI is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EniInfo {
    /// Its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Member (of the trunk) or Secondary; other programs also write Primary and Trunk.
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its VLAN on the trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<i64>,
    /// Bind, Unbind or Deleted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The network card of the instance it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<i64>,
    /// Its virtual function, where the instance has such.
    #[serde(rename = "vfID", default, skip_serializing_if = "Option::is_none")]
    pub vf_id: Option<i64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub others: Others,
}
