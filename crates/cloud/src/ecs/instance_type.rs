//! What instance types allow.

use std::collections::BTreeMap;

use model::InstanceLimits;
use serde::Deserialize;

use super::INSTANCE_TYPES_PER_DESCRIBE_MAX;
use crate::{
    Call, DecodeError, RequestError,
    document::{nested_list, parse},
    rpc::{Params, Product},
};

/// Asks what each of `types` allows, for example `ecs.g7.xlarge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeInstanceTypes {
    /// The types, 1 to 10.
    pub types: Vec<String>,
}

impl Call for DescribeInstanceTypes {
    const ACTION: &'static str = "DescribeInstanceTypes";
    const PRODUCT: Product = Product::Ecs;
    /// By type; every type asked for is in it.
    type Output = BTreeMap<String, InstanceLimits>;

    fn check(&self) -> Result<(), RequestError> {
        let (count, most) = (self.types.len(), INSTANCE_TYPES_PER_DESCRIBE_MAX);
        RequestError::bound("InstanceTypes", "types", count, 1, most)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set_list("InstanceTypes", &self.types);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<Self::Output, DecodeError> {
        let entries = parse::<TypesDocument>(body)?.instance_types.items;
        let limits: BTreeMap<_, _> = entries.into_iter().map(TypeDocument::read).collect();
        match self.types.iter().find(|name| !limits.contains_key(*name)) {
            None => Ok(limits),
            Some(missing) => Err(DecodeError::Absent {
                what: "instance type",
                name: missing.clone(),
            }),
        }
    }
}

nested_list!(InstanceType, "InstanceType");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TypesDocument {
    instance_types: InstanceType<TypeDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TypeDocument {
    instance_type_id: String,
    eni_quantity: u32,
    eni_private_ip_address_quantity: u32,
    eni_ipv6_address_quantity: u32,
    // Both came with trunks; a private cloud that is older has neither fields nor trunks.
    eni_total_quantity: Option<u32>,
    eni_trunk_supported: Option<bool>,
}

impl TypeDocument {
    fn read(self) -> (String, InstanceLimits) {
        let limits = InstanceLimits {
            enis: self.eni_quantity,
            ipv4_per_eni: self.eni_private_ip_address_quantity,
            ipv6_per_eni: self.eni_ipv6_address_quantity,
            enis_total: self.eni_total_quantity.unwrap_or(self.eni_quantity),
            trunk: self.eni_trunk_supported.unwrap_or(false),
        };
        (self.instance_type_id, limits)
    }
}
