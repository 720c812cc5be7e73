//! Calls that create something, as they are written down before they are made, and what each of them
//! brings and takes up. Must never know how a call is sent.

use std::collections::BTreeMap;

use model::{ClientToken, EniId, Ipv4Prefix, SecurityGroupId, VSwitchId};
use serde::{Deserialize, Serialize};

/// A CreateNetworkInterface call, whole: what is sent again under the same token is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateEni {
    /// Where its addresses come from.
    pub vswitch: VSwitchId,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Addresses, the primary one included.
    pub address_count: u32,
    /// Prefixes.
    #[serde(default)]
    pub prefix_count: u32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is to be the node's trunk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trunk: bool,
}

/// A call that creates something, written down before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its number, unique in this ledger.
    pub id: u64,
    /// What makes a repetition the same call.
    pub token: ClientToken,
    /// The call.
    pub call: IntentCall,
}

/// The calls that create something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntentCall {
    /// A new ENI.
    CreateEni(CreateEni),
    /// More addresses on an ENI.
    AssignAddresses {
        /// The ENI.
        eni: EniId,
        /// How many.
        count: u32,
    },
    /// Prefixes on an ENI.
    AssignPrefixes {
        /// The ENI.
        eni: EniId,
        /// How many.
        count: u32,
    },
}

impl IntentCall {
    /// The ENI that is to get something, if it is there already.
    pub fn eni(&self) -> Option<&EniId> {
        match self {
            IntentCall::CreateEni(_) => None,
            IntentCall::AssignAddresses { eni, .. } | IntentCall::AssignPrefixes { eni, .. } => {
                Some(eni)
            }
        }
    }

    /// Whether it makes the node's trunk.
    pub fn is_trunk(&self) -> bool {
        matches!(self, IntentCall::CreateEni(create) if create.trunk)
    }

    /// Addresses for pods that it brings.
    pub fn addresses(&self) -> u32 {
        let prefixed = |count: u32| count.saturating_mul(Ipv4Prefix::ADDRESSES);
        match self {
            IntentCall::CreateEni(create) => create
                .address_count
                .saturating_add(prefixed(create.prefix_count)),
            IntentCall::AssignAddresses { count, .. } => *count,
            IntentCall::AssignPrefixes { count, .. } => prefixed(*count),
        }
    }

    /// Places it takes of those the instance type gives an ENI: a prefix takes one.
    pub fn places(&self) -> u32 {
        match self {
            IntentCall::CreateEni(create) => create.address_count + create.prefix_count,
            IntentCall::AssignAddresses { count, .. }
            | IntentCall::AssignPrefixes { count, .. } => *count,
        }
    }

    /// Prefixes it asks for.
    pub fn prefixes(&self) -> u32 {
        match self {
            IntentCall::CreateEni(create) => create.prefix_count,
            IntentCall::AssignAddresses { .. } => 0,
            IntentCall::AssignPrefixes { count, .. } => *count,
        }
    }
}
