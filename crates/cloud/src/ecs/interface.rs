//! Making, attaching, detaching and deleting an ENI.

use std::{collections::BTreeMap, net::Ipv4Addr};

use model::{ClientToken, Eni, EniId, InstanceId, SecurityGroupId, VSwitchId};

use super::{
    CLIENT_TOKEN_LENGTH_MAX, PREFIXES_PER_CALL_MAX, SECONDARY_ADDRESSES_PER_CREATE_MAX, TAGS_MAX,
    document::EniDocument,
};
use crate::{
    Call, DecodeError, RequestError,
    document::{acknowledged, parse},
    rpc::{Params, Product},
};

/// Most security groups an ENI may be put into. The cloud's quota is 5 and may be raised to 10; which
/// of them applies is the cloud's to say.
const SECURITY_GROUPS_MAX: usize = 10;

/// The kinds of ENI that can be made; Primary comes with an instance and Member by attaching to a
/// trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewEniKind {
    /// An additional interface.
    Secondary,
    /// An interface that carries member ENIs (the API calls this an invitational preview).
    Trunk,
}

impl NewEniKind {
    const fn name(self) -> &'static str {
        match self {
            NewEniKind::Secondary => "Secondary",
            NewEniKind::Trunk => "Trunk",
        }
    }
}

/// Makes an ENI with its secondary addresses. Synchronous: the ENI is Available in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetworkInterface {
    /// Where its addresses come from.
    pub vswitch: VSwitchId,
    /// Its security groups, at least one.
    pub security_groups: Vec<SecurityGroupId>,
    /// Its primary address, when it must be this one; the cloud chooses otherwise.
    pub primary_address: Option<Ipv4Addr>,
    /// Secondary addresses to bring along, 0 to 49.
    pub secondary_address_count: u32,
    /// IPv4 prefixes to bring along, 0 to 10.
    pub ipv4_prefix_count: u32,
    /// What people read in the console, 2 to 256 characters.
    pub description: String,
    /// Its tags, at most 20.
    pub tags: BTreeMap<String, String>,
    /// Its resource group, when it is not the account's default.
    pub resource_group: Option<String>,
    /// Secondary or Trunk.
    pub kind: NewEniKind,
    /// Whether the cloud deletes it with the instance it is attached to.
    pub delete_on_release: bool,
    /// Makes a repeated call the same call.
    pub token: ClientToken,
}

impl Call for CreateNetworkInterface {
    const ACTION: &'static str = "CreateNetworkInterface";
    const PRODUCT: Product = Product::Ecs;
    type Output = Eni;

    fn check(&self) -> Result<(), RequestError> {
        let groups = self.security_groups.len();
        RequestError::bound("SecurityGroupIds", "groups", groups, 1, SECURITY_GROUPS_MAX)?;
        let (count, most) = (
            self.secondary_address_count as usize,
            SECONDARY_ADDRESSES_PER_CREATE_MAX,
        );
        RequestError::bound(
            "SecondaryPrivateIpAddressCount",
            "addresses",
            count,
            0,
            most,
        )?;
        let prefixes = self.ipv4_prefix_count as usize;
        RequestError::bound(
            "Ipv4PrefixCount",
            "prefixes",
            prefixes,
            0,
            PREFIXES_PER_CALL_MAX,
        )?;
        let characters = self.description.chars().count();
        RequestError::bound("Description", "characters", characters, 2, 256)?;
        RequestError::bound("Tag", "tags", self.tags.len(), 0, TAGS_MAX)?;
        check_token(&self.token)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("VSwitchId", &self.vswitch);
        params.set_list("SecurityGroupIds", &self.security_groups);
        params.set_some("PrimaryIpAddress", self.primary_address);
        if self.secondary_address_count > 0 {
            params.set(
                "SecondaryPrivateIpAddressCount",
                self.secondary_address_count,
            );
        }
        if self.ipv4_prefix_count > 0 {
            params.set("Ipv4PrefixCount", self.ipv4_prefix_count);
        }
        params.set("NetworkInterfaceName", name_of(&self.token));
        params.set("Description", &self.description);
        params.set_tags(&self.tags);
        params.set_some("ResourceGroupId", self.resource_group.as_ref());
        params.set("InstanceType", self.kind.name());
        params.set("DeleteOnRelease", self.delete_on_release);
        params.set("ClientToken", &self.token);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<Eni, DecodeError> {
        Ok(parse::<EniDocument>(body)?.read()?.eni)
    }
}

/// The name of an ENI made under a token, by which it is found when the answer was lost
/// (`NetworkInterfaceName`: 2 to 128 characters, the first a letter; a token has at most 64).
pub(super) fn name_of(token: &ClientToken) -> String {
    format!("eni-cni-{}", token.as_str())
}

pub(super) fn check_token(token: &ClientToken) -> Result<(), RequestError> {
    let length = token.as_str().len();
    RequestError::bound(
        "ClientToken",
        "characters",
        length,
        1,
        CLIENT_TOKEN_LENGTH_MAX,
    )
}

/// Attaches an ENI to an instance, or a member ENI to a trunk of that instance. Asynchronous: the ENI
/// is Attaching until a describe says InUse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachNetworkInterface {
    /// The ENI.
    pub eni: EniId,
    /// The instance.
    pub instance: InstanceId,
    /// The trunk, when the ENI shall become its member.
    pub trunk: Option<EniId>,
}

impl Call for AttachNetworkInterface {
    const ACTION: &'static str = "AttachNetworkInterface";
    const PRODUCT: Product = Product::Ecs;
    type Output = ();

    fn params(&self) -> Params {
        attachment(&self.eni, &self.instance, self.trunk.as_ref())
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}

/// Detaches an ENI. Asynchronous: the ENI is Detaching until a describe says Available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachNetworkInterface {
    /// The ENI.
    pub eni: EniId,
    /// The instance it is attached to.
    pub instance: InstanceId,
    /// The trunk it is a member of, if it is one.
    pub trunk: Option<EniId>,
}

impl Call for DetachNetworkInterface {
    const ACTION: &'static str = "DetachNetworkInterface";
    const PRODUCT: Product = Product::Ecs;
    type Output = ();

    fn params(&self) -> Params {
        attachment(&self.eni, &self.instance, self.trunk.as_ref())
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}

/// Attach and detach say the same three things. `TrunkNetworkInstanceId` is the API's own spelling.
fn attachment(eni: &EniId, instance: &InstanceId, trunk: Option<&EniId>) -> Params {
    let mut params = Params::default();
    params.set("NetworkInterfaceId", eni);
    params.set("InstanceId", instance);
    params.set_some("TrunkNetworkInstanceId", trunk);
    params
}

/// Deletes an ENI that is attached to nothing. Asynchronous: it is gone once a describe that can see
/// our other ENIs no longer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteNetworkInterface {
    /// The ENI.
    pub eni: EniId,
}

impl Call for DeleteNetworkInterface {
    const ACTION: &'static str = "DeleteNetworkInterface";
    const PRODUCT: Product = Product::Ecs;
    type Output = ();

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("NetworkInterfaceId", &self.eni);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}

/// Switches the check of an ENI that drops packets whose source or destination is none of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModifyNetworkInterfaceAttribute {
    /// The ENI.
    pub eni: EniId,
    /// Whether the cloud checks from now on.
    pub source_dest_check: bool,
}

impl Call for ModifyNetworkInterfaceAttribute {
    const ACTION: &'static str = "ModifyNetworkInterfaceAttribute";
    const PRODUCT: Product = Product::Ecs;
    type Output = ();

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("NetworkInterfaceId", &self.eni);
        params.set("SourceDestCheck", self.source_dest_check);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}
