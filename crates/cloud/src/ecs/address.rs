//! Giving addresses to an ENI and taking them back.

use std::net::IpAddr;

use model::{ClientToken, EniId};
use serde::Deserialize;

use super::{SECONDARY_ADDRESSES_PER_CREATE_MAX, interface::check_token};
use crate::{
    Call, DecodeError, RequestError,
    document::{acknowledged, id, nested_list, parse, unexpected, value},
    rpc::{Params, Product},
};

/// Gives an ENI secondary addresses of the vSwitch's choice. Synchronous: the answer names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignPrivateIpAddresses {
    /// The ENI.
    pub eni: EniId,
    /// How many, at least 1; the instance type bounds what an ENI holds.
    pub count: u32,
    /// Makes a repeated call the same call.
    pub token: ClientToken,
}

/// What an ENI was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedAddresses {
    /// The ENI.
    pub eni: EniId,
    /// The new addresses, without those it had before.
    pub addresses: Vec<IpAddr>,
}

impl Call for AssignPrivateIpAddresses {
    const ACTION: &'static str = "AssignPrivateIpAddresses";
    const PRODUCT: Product = Product::Ecs;
    type Output = AssignedAddresses;

    fn check(&self) -> Result<(), RequestError> {
        // The API documents no range for the count here, so the create's is taken.
        let (count, most) = (self.count as usize, SECONDARY_ADDRESSES_PER_CREATE_MAX);
        RequestError::bound(
            "SecondaryPrivateIpAddressCount",
            "addresses",
            count,
            1,
            most,
        )?;
        check_token(&self.token)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("NetworkInterfaceId", &self.eni);
        params.set("SecondaryPrivateIpAddressCount", self.count);
        params.set("ClientToken", &self.token);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<AssignedAddresses, DecodeError> {
        let set = parse::<AssignedDocument>(body)?.assigned_private_ip_addresses_set;
        let eni: EniId = id("NetworkInterfaceId", set.network_interface_id)?;
        if eni != self.eni {
            return Err(unexpected(
                "NetworkInterfaceId",
                eni.as_str(),
                "the ENI asked about",
            ));
        }
        let texts = &set.private_ip_set.items;
        let addresses = texts
            .iter()
            .map(|text| {
                Ok(IpAddr::V4(value(
                    "PrivateIpAddress",
                    text,
                    "an IPv4 address",
                )?))
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        Ok(AssignedAddresses { eni, addresses })
    }
}

nested_list!(AssignedIps, "PrivateIpAddress");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssignedDocument {
    assigned_private_ip_addresses_set: AssignedSet,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssignedSet {
    network_interface_id: String,
    private_ip_set: AssignedIps<String>,
}

/// Takes secondary addresses from an ENI. The cloud refuses it with class Gone when the ENI does not
/// hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnassignPrivateIpAddresses {
    /// The ENI.
    pub eni: EniId,
    /// Which, at least one.
    pub addresses: Vec<IpAddr>,
}

impl Call for UnassignPrivateIpAddresses {
    const ACTION: &'static str = "UnassignPrivateIpAddresses";
    const PRODUCT: Product = Product::Ecs;
    type Output = ();

    fn check(&self) -> Result<(), RequestError> {
        let (count, most) = (self.addresses.len(), SECONDARY_ADDRESSES_PER_CREATE_MAX);
        RequestError::bound("PrivateIpAddress", "addresses", count, 1, most)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("NetworkInterfaceId", &self.eni);
        params.set_list("PrivateIpAddress", &self.addresses);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}
