//! The VPC calls, as values.
//!
//! Parameter and field names are those of the official SDK's generated models
//! (`alibabacloud-vpc20160428` 7.2.2). Nothing here sends, retries or decides.

mod route;

use model::{VSwitch, VSwitchId};
use serde::Deserialize;

use crate::{
    Call, DecodeError,
    document::{id, nested_list, parse, value},
    rpc::{Params, Product},
};

pub use route::{
    CreateRouteEntry, DeleteRouteEntry, DescribeRouteEntryList, DescribeSystemRouteTable, RoutePage,
};

/// Asks for one vSwitch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeVSwitches {
    /// The vSwitch.
    pub id: VSwitchId,
}

impl Call for DescribeVSwitches {
    const ACTION: &'static str = "DescribeVSwitches";
    const PRODUCT: Product = Product::Vpc;
    /// Nothing when the answer does not list it, which is no proof that it does not exist: the cloud
    /// may answer a describe it does not permit with an empty list.
    type Output = Option<VSwitch>;

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("VSwitchId", &self.id);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<Option<VSwitch>, DecodeError> {
        let entries = parse::<VSwitchesDocument>(body)?.v_switches.items;
        let vswitches = entries
            .into_iter()
            .map(VSwitchDocument::read)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(vswitches.into_iter().find(|vswitch| vswitch.id == self.id))
    }
}

nested_list!(VSwitchList, "VSwitch");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VSwitchesDocument {
    v_switches: VSwitchList<VSwitchDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VSwitchDocument {
    v_switch_id: String,
    zone_id: String,
    available_ip_address_count: u32,
    cidr_block: String,
    ipv6_cidr_block: Option<String>,
}

impl VSwitchDocument {
    fn read(self) -> Result<VSwitch, DecodeError> {
        Ok(VSwitch {
            id: id("VSwitchId", self.v_switch_id)?,
            zone: id("ZoneId", self.zone_id)?,
            available_addresses: self.available_ip_address_count,
            cidr: value("CidrBlock", &self.cidr_block, "an IPv4 network")?,
            // A vSwitch without IPv6 has an empty text here.
            ipv6_cidr: self
                .ipv6_cidr_block
                .filter(|text| !text.is_empty())
                .map(|text| value("Ipv6CidrBlock", &text, "an IPv6 network"))
                .transpose()?,
        })
    }
}
