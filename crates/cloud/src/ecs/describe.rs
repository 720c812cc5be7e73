//! Finding ENIs.

use std::collections::BTreeMap;

use model::{ClientToken, Eni, EniId, EniKind, EniStatus, InstanceId, VpcId};
use serde::Deserialize;

use super::{
    INTERFACE_IDS_PER_DESCRIBE_MAX, INTERFACES_PER_PAGE, TAGS_MAX,
    document::{EniDocument, kind_name, status_name},
    interface::name_of,
};
use crate::{
    Call, DecodeError, RequestError,
    document::{nested_list, parse},
    rpc::{Params, Product},
};

/// Asks for the ENIs that match every filter that is set; with none, for all of the region. One page
/// an answer: [`Client::describe_network_interfaces`](crate::Client::describe_network_interfaces)
/// reads them all.
///
/// An empty answer is no proof of absence: the cloud may answer a describe it does not permit with
/// an empty list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribeNetworkInterfaces {
    /// Exactly these, at most 100 a call.
    pub ids: Vec<EniId>,
    /// Attached to this instance.
    pub instance: Option<InstanceId>,
    /// In this VPC.
    pub vpc: Option<VpcId>,
    /// Of this kind.
    pub kind: Option<EniKind>,
    /// In this status.
    pub status: Option<EniStatus>,
    /// Made by a create under this token.
    pub made_under: Option<ClientToken>,
    /// With all of these tags.
    pub tags: BTreeMap<String, String>,
    /// Where the previous page ended.
    pub next_token: Option<String>,
}

/// An ENI and how it hangs on its instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedEni {
    /// The ENI.
    pub eni: Eni,
    /// `Attachment.DeviceIndex`. For a member ENI it is its VLAN id on the trunk, which no public
    /// documentation confirms.
    pub device_index: Option<u32>,
    /// `Attachment.TrunkNetworkInterfaceId`: the trunk a member ENI lives on.
    pub trunk: Option<EniId>,
    /// Whether the cloud drops packets whose source or destination is none of its addresses
    /// (`SourceDestCheck`; a cloud that does not say so has no such check).
    pub source_dest_check: bool,
}

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The ENIs on it.
    pub interfaces: Vec<DescribedEni>,
    /// Where the next page starts; nothing on the last one.
    pub next_token: Option<String>,
}

impl DescribeNetworkInterfaces {
    /// The same question in parts the API accepts, by at most 100 ids each: the first part, and the
    /// others from last to second.
    pub(crate) fn parts(&self) -> (Self, Vec<Self>) {
        let part = |ids: &[EniId]| Self {
            ids: ids.to_vec(),
            ..self.clone()
        };
        let mut parts = self.ids.chunks(INTERFACE_IDS_PER_DESCRIBE_MAX).map(part);
        match parts.next() {
            None => (self.clone(), Vec::new()),
            Some(first) => (first, parts.rev().collect()),
        }
    }
}

impl Call for DescribeNetworkInterfaces {
    const ACTION: &'static str = "DescribeNetworkInterfaces";
    const PRODUCT: Product = Product::Ecs;
    type Output = Page;

    fn check(&self) -> Result<(), RequestError> {
        let (ids, most) = (self.ids.len(), INTERFACE_IDS_PER_DESCRIBE_MAX);
        RequestError::bound("NetworkInterfaceId", "ids", ids, 0, most)?;
        RequestError::bound("Tag", "tags", self.tags.len(), 0, TAGS_MAX)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set_list("NetworkInterfaceId", &self.ids);
        params.set_some("InstanceId", self.instance.as_ref());
        params.set_some("VpcId", self.vpc.as_ref());
        params.set_some("Type", self.kind.map(kind_name));
        params.set_some("Status", self.status.map(status_name));
        params.set_some(
            "NetworkInterfaceName",
            self.made_under.as_ref().map(name_of),
        );
        params.set_tags(&self.tags);
        params.set("MaxResults", INTERFACES_PER_PAGE);
        params.set_some("NextToken", self.next_token.as_ref());
        params
    }

    fn decode(&self, body: &[u8]) -> Result<Page, DecodeError> {
        let document = parse::<PageDocument>(body)?;
        let entries = document.network_interface_sets.items.into_iter();
        Ok(Page {
            interfaces: entries.map(EniDocument::read).collect::<Result<_, _>>()?,
            next_token: document.next_token.filter(|token| !token.is_empty()),
        })
    }
}

nested_list!(NetworkInterfaceSet, "NetworkInterfaceSet");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PageDocument {
    network_interface_sets: NetworkInterfaceSet<EniDocument>,
    next_token: Option<String>,
}
