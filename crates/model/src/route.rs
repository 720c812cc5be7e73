//! Custom entries of a VPC's route table, as far as decisions need them.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{InstanceId, RouteEntryId};

/// Where a route entry leads (VPC API, `NextHops`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextHop {
    /// To one ECS instance (`NextHopType` Instance).
    Instance(InstanceId),
    /// To anything else, in words for people.
    Other(String),
}

/// A custom entry of a route table whose destination is a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Its id, by which exactly this entry can be deleted.
    pub id: RouteEntryId,
    /// The block it is for; no two entries of a table have the same.
    pub destination: IpNet,
    /// Where it leads.
    pub next_hop: NextHop,
    /// `RouteEntryName`, empty when it has none.
    pub name: String,
    /// `Description`, empty when it has none.
    pub description: String,
    /// Whether packets take it; false while the cloud still makes or changes it (`Status` other than
    /// Available).
    pub available: bool,
}
