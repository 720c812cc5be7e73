//! DescribeNetworkInterfaces: filters and both styles of paging.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::{EniKind, EniStatus, Timestamp};
use serde_json::{Value, json};

use super::{Body, check_region};
use crate::{
    params::Params,
    refusal::{Outcome, Refusal},
    render,
    state::{Eni, KINDS, STATUSES},
    world::World,
};

/// ENI ids, or addresses, in one call (ECS API: "Valid values of N: 1 to 100").
const IDS_MAX: usize = 100;
/// Entries a page (ECS API, MaxResults: below 10 counts as 10, above 500 as 500).
const PAGE: std::ops::RangeInclusive<u32> = 10..=500;
/// Entries a page in the deprecated style (ECS API, PageSize: default 10).
const PAGE_SIZE_DEFAULT: u32 = 10;

/// A text of an ENI that a parameter can be compared with.
type Field = fn(&Eni) -> &str;

/// What an ENI must be to be shown; empty conditions hold for all.
struct Filter<'a> {
    ids: BTreeSet<&'a str>,
    addresses: Vec<Ipv4Addr>,
    texts: Vec<(&'a str, Field)>,
    security_group: Option<&'a str>,
    kind: Option<EniKind>,
    status: Option<EniStatus>,
    tags: BTreeMap<String, String>,
}

impl<'a> Filter<'a> {
    fn read(params: &'a Params) -> Outcome<Self> {
        let fields: [(&str, Field); 4] = [
            ("InstanceId", |eni| {
                eni.instance.as_ref().map_or("", |id| id.as_str())
            }),
            ("VSwitchId", |eni| eni.vswitch.as_str()),
            ("NetworkInterfaceName", |eni| &eni.name),
            ("ResourceGroupId", |eni| &eni.resource_group),
        ];
        let given = |(name, of): (&str, Field)| Some((params.text(name)?, of));
        Ok(Self {
            ids: params
                .list("NetworkInterfaceId", IDS_MAX)?
                .into_iter()
                .collect(),
            addresses: params.addresses("PrivateIpAddress", IDS_MAX)?,
            texts: fields.into_iter().filter_map(given).collect(),
            security_group: params.text("SecurityGroupId"),
            kind: params.word("Type", &KINDS)?,
            status: params.word("Status", &STATUSES)?,
            tags: params.tags()?,
        })
    }

    fn shows(&self, eni: &Eni) -> bool {
        let holds = |address: &Ipv4Addr| *address == eni.primary || eni.secondary.contains(address);
        let in_group = |group: &str| eni.security_groups.iter().any(|id| id.as_str() == group);
        // A tag filter without a value asks for the key alone.
        let tagged = |(key, value): (&String, &String)| {
            eni.tags
                .get(key)
                .is_some_and(|has| value.is_empty() || has == value)
        };
        (self.ids.is_empty() || self.ids.contains(eni.id.as_str()))
            && (self.addresses.is_empty() || self.addresses.iter().any(holds))
            && self.texts.iter().all(|(wanted, of)| of(eni) == *wanted)
            && self.security_group.is_none_or(in_group)
            && self.kind.is_none_or(|kind| kind == eni.kind)
            && self.status.is_none_or(|status| status == eni.status)
            && self.tags.iter().all(tagged)
    }
}

pub(super) fn empty() -> Body {
    render::object(json!({
        "TotalCount": 0,
        "PageNumber": 1,
        "PageSize": PAGE_SIZE_DEFAULT,
        "NextToken": "",
        "NetworkInterfaceSets": { "NetworkInterfaceSet": [] },
    }))
}

pub(super) fn describe(world: &mut World, now: Timestamp, params: &Params) -> Outcome<Body> {
    check_region(world, params)?;
    let filter = Filter::read(params)?;
    let primary = params
        .text("PrimaryIpAddress")
        .map(str::parse::<Ipv4Addr>)
        .transpose();
    let primary = primary.map_err(|_| Refusal::invalid("PrimaryIpAddress", "an IPv4 address"))?;
    let vpc_fits = params
        .text("VpcId")
        .is_none_or(|vpc| vpc == world.config.vpc.as_str());
    let lag = world.config.timing.describe_lag;
    let shown: Vec<&Eni> = world
        .history
        .view(now, lag)
        .filter(|eni| vpc_fits && filter.shows(eni))
        .filter(|eni| primary.is_none_or(|address| address == eni.primary))
        .collect();

    let total = shown.len();
    let mut body = empty();
    let mut page = Vec::new();
    if params.text("MaxResults").is_some() || params.text("NextToken").is_some() {
        let most = params
            .number("MaxResults", 0..=u32::MAX)?
            .unwrap_or(*PAGE.start());
        let most = most.clamp(*PAGE.start(), *PAGE.end()) as usize;
        let after = params.text("NextToken").map(last_of_page).transpose()?;
        let mut rest = shown
            .into_iter()
            .filter(|eni| after.as_deref().is_none_or(|id| eni.id.as_str() > id));
        page.extend(rest.by_ref().take(most));
        let next = page.last().filter(|_| rest.next().is_some());
        body.insert(
            "NextToken".into(),
            next.map_or(Value::from(""), |eni| token_after(eni).into()),
        );
    } else {
        let number = params.number("PageNumber", 1..=u32::MAX)?.unwrap_or(1);
        let size = params
            .number("PageSize", 1..=*PAGE.end())?
            .unwrap_or(PAGE_SIZE_DEFAULT);
        let skip = (number as usize - 1).saturating_mul(size as usize);
        page.extend(shown.into_iter().skip(skip).take(size as usize));
        body.insert("PageNumber".into(), number.into());
        body.insert("PageSize".into(), size.into());
    }
    let page: Vec<Value> = page
        .iter()
        .map(|eni| render::described_eni(&world.config, eni))
        .collect();
    body.insert("TotalCount".into(), total.into());
    body.insert(
        "NetworkInterfaceSets".into(),
        json!({ "NetworkInterfaceSet": page }),
    );
    Ok(body)
}

/// The token names the last entry shown, so that entries which come or go in between neither repeat
/// nor hide others.
fn token_after(eni: &Eni) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(eni.id.as_str())
}

fn last_of_page(token: &str) -> Outcome<String> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|id| id.starts_with("eni-"))
        .ok_or_else(|| Refusal::invalid("NextToken", "the NextToken of an earlier answer"))
}
