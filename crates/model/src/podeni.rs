//! PodENI: the record of the ENIs that belong to one pod, as decisions see it.
//!
//! Must not know the Kubernetes types this is read from and written to.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    DualStack, EniId, InstanceId, InterfaceName, Mac, PodKey, PodUid, SecurityGroupId, Timestamp,
    VSwitchId, VpcId, ZoneId,
    podnetworking::{EniAttachment, Tenure, VSwitchPreference},
};

/// Tag of an ENI that may serve one pod of a PodNetworking after the other: the edition it was made for.
pub const EDITION_TAG: &str = "network.alibabacloud.com/podnetworking";

/// Where a record is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Just made: its ENIs do not exist yet.
    #[default]
    Initial,
    /// Its ENIs are on their way to the node.
    Binding,
    /// Its ENIs are on the node.
    Bind,
    /// Its ENIs are on their way off the node.
    Detaching,
    /// Its ENIs are on no node and wait for the next pod of the name.
    Unbind,
    /// Its ENIs are to be deleted, and it with them.
    Deleting,
}

/// The ENI of an allocation, once it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedEni {
    /// Its id.
    pub id: EniId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its VPC, when the cloud named it.
    pub vpc: Option<VpcId>,
}

/// One interface of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Its name in the pod.
    pub interface: InterfaceName,
    /// For how long the ENI is the pod's.
    pub tenure: Tenure,
    /// How the ENI reaches the node.
    pub attachment: EniAttachment,
    /// The vSwitch its address comes from.
    pub vswitch: VSwitchId,
    /// The blocks of that vSwitch.
    pub blocks: DualStack<IpNet>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// The resource group it is billed under, if any.
    pub resource_group: Option<String>,
    /// Whether the pod's default route goes by it.
    pub default_route: bool,
    /// Further destinations that go by it.
    pub routes: Vec<IpNet>,
    /// The edition of the PodNetworking whose spare ENIs its ENI is one of: the ENI is tagged with it
    /// ([`EDITION_TAG`]). Nothing when the ENI is made for this pod alone.
    pub edition: Option<String>,
    /// How often making its ENI was begun anew: a refused request needs another ClientToken, because the
    /// cloud remembers a token with its parameters.
    pub attempt: u32,
    /// The addresses of the ENI, one a family. One that stands here without an ENI was promised: the next
    /// ENI is asked for with it.
    pub addresses: DualStack<IpAddr>,
    /// The ENI, once the cloud made it.
    pub eni: Option<OwnedEni>,
}

/// What the node needs to know of an attached ENI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The VLAN on the trunk; nothing when the ENI is attached on its own.
    pub vlan: Option<u16>,
}

/// The ENIs of one pod. It has the pod's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEni {
    /// Namespace and name, the pod's.
    pub key: PodKey,
    /// UID of the record itself; the ClientTokens of its calls are made of it.
    pub uid: String,
    /// The API server's version of it: a write on another version is refused.
    pub version: String,
    /// Whether somebody asked for its deletion.
    pub deleting: bool,
    /// Whether our finalizer still holds it.
    pub held: bool,
    /// The pod it was last bound for.
    pub pod: PodUid,
    /// The node it was last bound to.
    pub node: String,
    /// The zone its ENIs can be used in.
    pub zone: ZoneId,
    /// The pod's interfaces.
    pub allocations: Vec<Allocation>,
    /// Where it is in its life.
    pub phase: Phase,
    /// The instance it is or was last attached to.
    pub instance: Option<InstanceId>,
    /// The trunk it is or was last attached to.
    pub trunk: Option<EniId>,
    /// Its ENIs that are attached.
    pub attached: BTreeMap<EniId, Attached>,
    /// When its pod was last seen; kept for fixed allocations only.
    pub last_seen: Option<Timestamp>,
    /// One sentence: what is being waited for. Empty when nothing is.
    pub message: String,
}

impl PodEni {
    /// Whether any of its ENIs outlives the pod.
    pub fn is_fixed(&self) -> bool {
        self.allocations.iter().any(|one| one.tenure.is_fixed())
    }
}

/// One interface a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRequest {
    /// Its name in the pod.
    pub interface: InterfaceName,
    /// For how long the ENI is the pod's.
    pub tenure: Tenure,
    /// How the ENI reaches the node.
    pub attachment: EniAttachment,
    /// Any of these.
    pub vswitches: Vec<VSwitchId>,
    /// Which of them.
    pub preference: VSwitchPreference,
    /// All of these.
    pub security_groups: Vec<SecurityGroupId>,
    /// The resource group it is billed under, if any.
    pub resource_group: Option<String>,
    /// Whether the pod's default route goes by it.
    pub default_route: bool,
    /// Further destinations that go by it.
    pub routes: Vec<IpNet>,
}
