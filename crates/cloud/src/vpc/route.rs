//! The route tables of a VPC and their custom entries.
//!
//! One entry a call: CreateRouteEntries and DeleteRouteEntries take fifty, but say of none which failed.

use ipnet::IpNet;
use model::{ClientToken, InstanceId, NextHop, RouteEntry, RouteEntryId, RouteTableId, VpcId};
use serde::Deserialize;

use crate::{
    Call, DecodeError, RequestError,
    document::{acknowledged, id, nested_list, parse},
    ecs::CLIENT_TOKEN_LENGTH_MAX,
    rpc::{Params, Product},
};

/// Most tables one page of DescribeRouteTableList holds, and what we ask for (documented maximum 50). A
/// VPC has ten at the most unless the account asked for more (VPC quota `vpc_quota_route_tables_num`).
const TABLES_PER_PAGE: usize = 50;
/// Most entries one page of DescribeRouteEntryList holds, and what we ask for (documented range 1 to 100).
const ENTRIES_PER_PAGE: usize = 100;
/// Longest name of an entry (documented: 1 to 128 characters).
const NAME_LENGTH_MAX: usize = 128;
/// Longest description of an entry (documented: 1 to 256 characters).
const DESCRIPTION_LENGTH_MAX: usize = 256;

/// Asks for the system route table of a VPC, which every vSwitch without a table of its own obeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeSystemRouteTable {
    /// The VPC.
    pub vpc: VpcId,
}

impl Call for DescribeSystemRouteTable {
    const ACTION: &'static str = "DescribeRouteTableList";
    const PRODUCT: Product = Product::Vpc;
    /// Nothing when the answer lists none, which is no proof: every VPC has one, but the cloud may answer
    /// a describe it does not permit with an empty list.
    type Output = Option<RouteTableId>;

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("VpcId", &self.vpc);
        params.set("RouteTableType", "System");
        params.set("PageSize", TABLES_PER_PAGE);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<Option<RouteTableId>, DecodeError> {
        let tables = parse::<TablesDocument>(body)?.router_table_list.items;
        let system = tables
            .into_iter()
            .find(|table| table.route_table_type == "System" && table.vpc_id == self.vpc.as_str());
        system
            .map(|table| id("RouteTableId", table.route_table_id))
            .transpose()
    }
}

/// Asks for the custom entries of a route table. One page an answer:
/// [`Client::describe_route_entries`](crate::Client::describe_route_entries) reads them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeRouteEntryList {
    /// The table.
    pub table: RouteTableId,
    /// Where the previous page ended.
    pub next_token: Option<String>,
}

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePage {
    /// The entries on it whose destination is a block of addresses; those for a prefix list are left out.
    pub entries: Vec<RouteEntry>,
    /// Where the next page starts; nothing on the last one.
    pub next_token: Option<String>,
}

impl Call for DescribeRouteEntryList {
    const ACTION: &'static str = "DescribeRouteEntryList";
    const PRODUCT: Product = Product::Vpc;
    type Output = RoutePage;

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("RouteTableId", &self.table);
        params.set("RouteEntryType", "Custom");
        params.set("MaxResult", ENTRIES_PER_PAGE);
        params.set_some("NextToken", self.next_token.as_ref());
        params
    }

    fn decode(&self, body: &[u8]) -> Result<RoutePage, DecodeError> {
        let document = parse::<EntriesDocument>(body)?;
        let entries = document.route_entrys.items.into_iter();
        Ok(RoutePage {
            entries: entries
                .filter_map(EntryDocument::read)
                .collect::<Result<_, _>>()?,
            next_token: document.next_token.filter(|token| !token.is_empty()),
        })
    }
}

/// Adds an entry that leads to an instance. Asynchronous: the entry is Pending for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRouteEntry {
    /// The table.
    pub table: RouteTableId,
    /// What the entry is for.
    pub destination: IpNet,
    /// Where it leads.
    pub instance: InstanceId,
    /// Its name, 1 to 128 characters.
    pub name: String,
    /// What people read in the console, 1 to 256 characters.
    pub description: String,
    /// Makes a repeated call the same call.
    pub token: ClientToken,
}

impl Call for CreateRouteEntry {
    const ACTION: &'static str = "CreateRouteEntry";
    const PRODUCT: Product = Product::Vpc;
    type Output = RouteEntryId;

    fn check(&self) -> Result<(), RequestError> {
        let texts = [
            ("RouteEntryName", &self.name, NAME_LENGTH_MAX),
            ("Description", &self.description, DESCRIPTION_LENGTH_MAX),
        ];
        for (parameter, text, most) in texts {
            RequestError::bound(parameter, "characters", text.chars().count(), 1, most)?;
        }
        let (length, most) = (self.token.as_str().len(), CLIENT_TOKEN_LENGTH_MAX);
        RequestError::bound("ClientToken", "characters", length, 1, most)
    }

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("RouteTableId", &self.table);
        params.set("DestinationCidrBlock", self.destination);
        params.set("NextHopType", "Instance");
        params.set("NextHopId", &self.instance);
        params.set("RouteEntryName", &self.name);
        params.set("Description", &self.description);
        params.set("ClientToken", &self.token);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<RouteEntryId, DecodeError> {
        id(
            "RouteEntryId",
            parse::<CreatedDocument>(body)?.route_entry_id,
        )
    }
}

/// Deletes exactly one entry, whoever may have put another in its place meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRouteEntry {
    /// The entry.
    pub entry: RouteEntryId,
}

impl Call for DeleteRouteEntry {
    const ACTION: &'static str = "DeleteRouteEntry";
    const PRODUCT: Product = Product::Vpc;
    type Output = ();

    fn params(&self) -> Params {
        let mut params = Params::default();
        params.set("RouteEntryId", &self.entry);
        params
    }

    fn decode(&self, body: &[u8]) -> Result<(), DecodeError> {
        acknowledged(body)
    }
}

nested_list!(TableList, "RouterTableListType");
nested_list!(EntryList, "RouteEntry");
nested_list!(NextHops, "NextHop");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TablesDocument {
    router_table_list: TableList<TableDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TableDocument {
    route_table_id: String,
    route_table_type: String,
    vpc_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntriesDocument {
    route_entrys: EntryList<EntryDocument>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntryDocument {
    route_entry_id: String,
    destination_cidr_block: String,
    next_hops: NextHops<HopDocument>,
    status: String,
    route_entry_name: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HopDocument {
    next_hop_type: String,
    next_hop_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedDocument {
    route_entry_id: String,
}

impl EntryDocument {
    /// Nothing for an entry whose destination is the id of a prefix list.
    fn read(self) -> Option<Result<RouteEntry, DecodeError>> {
        let destination = self.destination_cidr_block.parse().ok()?;
        let entry = || {
            Ok(RouteEntry {
                destination,
                next_hop: next_hop(&self.next_hops.items)?,
                id: id("RouteEntryId", self.route_entry_id)?,
                name: self.route_entry_name.unwrap_or_default(),
                description: self.description.unwrap_or_default(),
                available: self.status == "Available",
            })
        };
        Some(entry())
    }
}

fn next_hop(hops: &[HopDocument]) -> Result<NextHop, DecodeError> {
    let shown = |hop: &HopDocument| match &hop.next_hop_id {
        Some(id) => format!("{} {id}", hop.next_hop_type),
        None => hop.next_hop_type.clone(),
    };
    match hops {
        [hop] if hop.next_hop_type == "Instance" => {
            let instance = hop.next_hop_id.clone().unwrap_or_default();
            Ok(NextHop::Instance(id("NextHopId", instance)?))
        }
        [] => Ok(NextHop::Other("nothing".into())),
        several => Ok(NextHop::Other(
            several.iter().map(shown).collect::<Vec<_>>().join(", "),
        )),
    }
}
