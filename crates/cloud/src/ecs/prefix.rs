//! Giving prefixes to an ENI and taking them back: the calls of single addresses, with other
//! parameters.

use model::{ClientToken, EniId, Ipv4Prefix};
use serde::Deserialize;

use super::{PREFIXES_PER_CALL_MAX, document::prefix, interface::check_token};
use crate::{
    Call, DecodeError, RequestError,
    document::{acknowledged, id, nested_list, parse, unexpected},
    rpc::{Params, Product},
};

/// Gives an ENI prefixes of the vSwitch's reserved blocks. Synchronous: the answer names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignIpv4Prefixes {
    /// The ENI.
    pub eni: EniId,
    /// How many, 1 to 10; each takes the place of one address on the ENI.
    pub count: u32,
    /// Makes a repeated call the same call.
    pub token: ClientToken,
}

/// What an ENI was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPrefixes {
    /// The ENI.
    pub eni: EniId,
    /// The new prefixes, without those it had before.
    pub prefixes: Vec<Ipv4Prefix>,
}

impl Call for AssignIpv4Prefixes {
    const ACTION: &'static str = "AssignPrivateIpAddresses";
    const PRODUCT: Product = Product::Ecs;
    type Output = AssignedPrefixes;

    fn check(&self) -> Result<(), RequestError> {
        let (count, most) = (self.count as usize, PREFIXES_PER_CALL_MAX);
        RequestError::bound("Ipv4PrefixCount", "prefixes", count, 1, most)?;
        check_token(&self.token)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("NetworkInterfaceId", &self.eni);
        params.set("Ipv4PrefixCount", self.count);
        params.set("ClientToken", &self.token);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<AssignedPrefixes, DecodeError> {
        let set = parse::<AssignedDocument>(body)?.assigned_private_ip_addresses_set;
        let eni: EniId = id("NetworkInterfaceId", set.network_interface_id)?;
        if eni != self.eni {
            let expected = "the ENI asked about";
            return Err(unexpected("NetworkInterfaceId", eni.as_str(), expected));
        }
        let texts = set.ipv4_prefix_set.items.iter();
        let prefixes = texts
            .map(|text| prefix("Ipv4Prefixes", text))
            .collect::<Result<_, _>>()?;
        Ok(AssignedPrefixes { eni, prefixes })
    }
}

nested_list!(AssignedList, "Ipv4Prefixes");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssignedDocument {
    assigned_private_ip_addresses_set: AssignedSet,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssignedSet {
    network_interface_id: String,
    ipv4_prefix_set: AssignedList<String>,
}

/// Takes prefixes from an ENI. The cloud refuses it with class Gone when the ENI does not hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnassignIpv4Prefixes {
    /// The ENI.
    pub eni: EniId,
    /// Which, 1 to 10.
    pub prefixes: Vec<Ipv4Prefix>,
}

impl Call for UnassignIpv4Prefixes {
    const ACTION: &'static str = "UnassignPrivateIpAddresses";
    const PRODUCT: Product = Product::Ecs;
    type Output = ();

    fn check(&self) -> Result<(), RequestError> {
        let (count, most) = (self.prefixes.len(), PREFIXES_PER_CALL_MAX);
        RequestError::bound("Ipv4Prefix", "prefixes", count, 1, most)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("NetworkInterfaceId", &self.eni);
        params.set_list("Ipv4Prefix", &self.prefixes);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}
