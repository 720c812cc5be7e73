//! The cloud as nodes reach it: calls are encoded and decoded by the product's own code, and served
//! by the simulated region, so that both borders are in the loop. What stands here besides is what
//! the region does not have: other tenants' calls, and the cloud's windows of one minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use cloud::{
    Call, Endpoint, Keys, Scheme, classify, ecs,
    rpc::{self, Stamp},
    vpc,
};
use cloudsim::{
    ApiRequest, ApiResponse, Delivery, Effect, Instance, InstanceSpec, MetadataRequest, Region,
    RegionConfig, VSwitchSpec,
};
use engine::node::{CloudAnswer, CloudCall, CloudFault, Interface};
use ipnet::{IpNet, Ipv4Net};
use model::{
    ClientToken, DualStack, Eni, EniId, Exhausted, Family, FaultClass, InstanceId, Ipv4Prefix, Mac,
    RegionId, Timestamp, VSwitchId, ZoneId,
};

use crate::schedule::Setup;

const MINUTE: u64 = 60_000_000_000;
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

/// The cloud, and who called what in the minute.
pub(crate) struct Cloud {
    pub(crate) region: Region,
    pub(crate) vswitches: Vec<VSwitchId>,
    endpoint: Endpoint,
    keys: Keys,
    name: RegionId,
    nonce: u64,
    minute: u64,
    window: BTreeMap<&'static str, u32>,
    limit: u32,
    /// Calls of each API a minute by others.
    pub(crate) tenants: u32,
    /// Calls made, by action.
    pub(crate) calls: BTreeMap<&'static str, u64>,
    /// Calls refused because the minute was full.
    pub(crate) throttled: u64,
    /// Calls of ours in a minute that alone were more than the cloud takes.
    pub(crate) over: Option<String>,
    /// Refusals because a quota of the instance was exceeded.
    pub(crate) quota: Option<String>,
    /// Actions that are refused for now, and with which code.
    pub(crate) refused: BTreeMap<String, String>,
    /// Tokens under which something was granted: asked again, the cloud first looks at those.
    granted: BTreeSet<ClientToken>,
    /// Tokens of calls that were refused because something ran out.
    denied: BTreeSet<ClientToken>,
    /// The call under way is one of those.
    pub(crate) repeats: bool,
    /// Every class of refusal there was.
    pub(crate) said: BTreeSet<FaultClass>,
    /// Whether a vSwitch of the pools ever showed no free address.
    pub(crate) was_full: bool,
    /// What every token was used for.
    tokens: BTreeMap<String, String>,
    /// What never changes about an interface: asking again would only cost time.
    settled: BTreeMap<Mac, Interface>,
    /// A token that was used for two things.
    pub(crate) token_twice: Option<String>,
}

/// The blocks for `count` prefixes in the vSwitch with this number, if it has room beside them.
fn reserved(at: u8, bits: u8, count: u8) -> Vec<Ipv4Net> {
    let blocks = (1..=count).filter(|_| bits <= 24);
    blocks
        .map(|block| Ipv4Net::new_assert([10, 1 + at, 0, block * 16].into(), Ipv4Prefix::LENGTH))
        .collect()
}

/// The zone of all nodes.
pub(crate) fn zone() -> ZoneId {
    ZoneId::new("cn-hangzhou-h").expect("a literal id")
}

impl Cloud {
    pub(crate) fn new(setup: &Setup) -> anyhow::Result<Self> {
        let mut config = RegionConfig::lab(setup.seed);
        config.vpc_cidr = "10.0.0.0/8".parse()?;
        config.limits.enis = 100_000;
        config.timing.attach = Duration::from_millis(setup.attach);
        config.timing.detach = config.timing.attach;
        config.vswitches.clear();
        // The last one is the nodes' own and never part of a pool.
        for (at, bits) in (0_u8..).zip(setup.vswitches.iter().chain(&[16])) {
            config.vswitches.push(VSwitchSpec {
                id: VSwitchId::new(format!("vsw-{at}"))?,
                name: format!("vsw-{at}"),
                zone: zone(),
                cidr: Ipv4Net::new([10, 1 + at, 0, 0].into(), *bits)?,
                reserved: reserved(at, *bits, setup.prefixes.unwrap_or(0)),
            });
        }
        let vswitches = config.vswitches.iter().map(|spec| spec.id.clone());
        let keys = config.keys.first().map(|key| (&key.id, &key.secret));
        let (id, secret) = keys.ok_or_else(|| anyhow::anyhow!("a region without keys"))?;
        Ok(Self {
            endpoint: Endpoint::parse("cloud", Scheme::Http)?,
            keys: Keys::permanent(id, secret),
            name: config.region.clone(),
            vswitches: vswitches.collect(),
            region: Region::new(config)?,
            nonce: 0,
            minute: 0,
            window: BTreeMap::new(),
            limit: setup.calls_a_minute,
            tenants: 0,
            calls: BTreeMap::new(),
            throttled: 0,
            over: None,
            quota: None,
            refused: BTreeMap::new(),
            granted: BTreeSet::new(),
            denied: BTreeSet::new(),
            repeats: false,
            said: BTreeSet::new(),
            was_full: false,
            tokens: BTreeMap::new(),
            settled: BTreeMap::new(),
            token_twice: None,
        })
    }

    /// Refuses an action with `code`, or not any more.
    pub(crate) fn refuse(&mut self, action: String, code: Option<String>) {
        match code {
            Some(code) => self.refused.insert(action, code),
            None => self.refused.remove(&action),
        };
    }

    /// Prefixes that each vSwitch of the pools can still give.
    pub(crate) fn spare_prefixes(&self) -> BTreeMap<VSwitchId, usize> {
        let pool = self.vswitches.len().saturating_sub(1);
        let specs = self.region.config().vswitches.iter().take(pool);
        let mut left: BTreeMap<VSwitchId, usize> = specs
            .map(|spec| (spec.id.clone(), spec.reserved.len()))
            .collect();
        for eni in self.region.snapshot().enis {
            if let Some(left) = left.get_mut(&eni.vswitch) {
                *left = left.saturating_sub(eni.prefixes.len());
            }
        }
        left
    }

    /// The vSwitches pods' addresses may come from.
    pub(crate) fn pool_vswitches(&self) -> Vec<VSwitchId> {
        let pool = self.vswitches.len().saturating_sub(1);
        self.vswitches.iter().take(pool).cloned().collect()
    }

    pub(crate) fn start_instance(
        &mut self,
        now: Timestamp,
        name: &str,
        instance_type: &str,
    ) -> anyhow::Result<Instance> {
        let spec = InstanceSpec {
            id: None,
            name: name.to_owned(),
            instance_type: instance_type.to_owned(),
            vswitch: self
                .vswitches
                .last()
                .cloned()
                .ok_or_else(|| anyhow::anyhow!("no vSwitch for instances"))?,
            security_groups: self.region.config().security_groups.clone(),
            ram_role: None,
        };
        Ok(self.region.run_instance(now, spec)?)
    }

    /// Carries out what the machine asks for.
    pub(crate) fn carry_out(
        &mut self,
        now: Timestamp,
        instance: &InstanceId,
        call: &CloudCall,
    ) -> Result<CloudAnswer, CloudFault> {
        let token = match call {
            CloudCall::CreateEni(token, _)
            | CloudCall::AssignAddresses(token, ..)
            | CloudCall::AssignPrefixes(token, ..) => Some(token),
            _ => None,
        };
        self.repeats = token.is_some_and(|token| self.granted.contains(token));
        let quota = self.quota.clone();
        let result = self.dispatch(now, instance, call);
        match (token, &result) {
            (Some(token), Ok(_)) => drop(self.granted.insert(token.clone())),
            // The second copy of what was refused for good comes when nobody asks for it any more.
            (Some(token), Err(_)) if self.denied.contains(token) => self.quota = quota,
            (Some(token), Err(fault)) if matches!(fault.class, FaultClass::Exhausted(_)) => {
                self.denied.insert(token.clone());
            }
            _ => {}
        }
        result
    }

    /// As the agent does.
    fn dispatch(
        &mut self,
        now: Timestamp,
        instance: &InstanceId,
        call: &CloudCall,
    ) -> Result<CloudAnswer, CloudFault> {
        let (instance, call) = (instance.clone(), call.clone());
        match call {
            CloudCall::CreateEni(token, create) => {
                let what = format!("{create:?}");
                self.token(token.as_str(), what);
                let request = ecs::CreateNetworkInterface {
                    vswitch: create.vswitch,
                    security_groups: create.security_groups,
                    primary_address: None,
                    secondary_address_count: create.address_count.saturating_sub(1),
                    ipv4_prefix_count: create.prefix_count,
                    description: "interface of Terway".into(),
                    tags: create.tags,
                    resource_group: None,
                    kind: match create.trunk {
                        true => ecs::NewEniKind::Trunk,
                        false => ecs::NewEniKind::Secondary,
                    },
                    delete_on_release: true,
                    token,
                };
                self.one(now, &request).map(CloudAnswer::Created)
            }
            CloudCall::AttachEni(eni) => {
                let trunk = None;
                self.done(
                    now,
                    &ecs::AttachNetworkInterface {
                        eni,
                        instance,
                        trunk,
                    },
                )
            }
            CloudCall::DetachEni(eni) => {
                let trunk = None;
                self.done(
                    now,
                    &ecs::DetachNetworkInterface {
                        eni,
                        instance,
                        trunk,
                    },
                )
            }
            CloudCall::DeleteEni(eni) => self.done(now, &ecs::DeleteNetworkInterface { eni }),
            CloudCall::AssignAddresses(token, eni, count) => {
                self.token(token.as_str(), format!("{eni} {count}"));
                let request = ecs::AssignPrivateIpAddresses { eni, count, token };
                let answer = self.one(now, &request)?;
                Ok(CloudAnswer::Assigned(answer.addresses))
            }
            CloudCall::UnassignAddresses(eni, addresses) => {
                self.done(now, &ecs::UnassignPrivateIpAddresses { eni, addresses })
            }
            CloudCall::AssignPrefixes(token, eni, count) => {
                self.token(token.as_str(), format!("{eni} {count} prefixes"));
                let request = ecs::AssignIpv4Prefixes { eni, count, token };
                let answer = self.one(now, &request)?;
                Ok(CloudAnswer::AssignedPrefixes(answer.prefixes))
            }
            CloudCall::UnassignPrefixes(eni, prefixes) => {
                self.done(now, &ecs::UnassignIpv4Prefixes { eni, prefixes })
            }
            CloudCall::DescribeNode => {
                let instance = Some(instance);
                let all = ecs::DescribeNetworkInterfaces {
                    instance,
                    ..Default::default()
                };
                self.describe(now, all)
            }
            CloudCall::DescribeEnis(ids) => {
                let some = ecs::DescribeNetworkInterfaces {
                    ids,
                    ..Default::default()
                };
                self.describe(now, some)
            }
            CloudCall::FindEni(token) => self.find(now, token),
            CloudCall::DescribeVSwitches(ids) => {
                let mut found = Vec::new();
                for id in ids {
                    found.extend(self.one(now, &vpc::DescribeVSwitches { id })?);
                }
                self.was_full |= found.iter().any(|it| it.available_addresses == 0);
                Ok(CloudAnswer::VSwitches(found))
            }
        }
    }

    fn find(&mut self, now: Timestamp, token: ClientToken) -> Result<CloudAnswer, CloudFault> {
        let one = ecs::DescribeNetworkInterfaces {
            made_under: Some(token),
            ..Default::default()
        };
        self.describe(now, one)
    }

    fn token(&mut self, token: &str, what: String) {
        let before = self
            .tokens
            .entry(token.to_owned())
            .or_insert_with(|| what.clone());
        if *before != what {
            self.token_twice = Some(format!("{token} was for {before} and is for {what}"));
        }
    }

    fn done<C: Call<Output = ()>>(
        &mut self,
        now: Timestamp,
        call: &C,
    ) -> Result<CloudAnswer, CloudFault> {
        self.one(now, call).map(|()| CloudAnswer::Accepted)
    }

    fn describe(
        &mut self,
        now: Timestamp,
        mut question: ecs::DescribeNetworkInterfaces,
    ) -> Result<CloudAnswer, CloudFault> {
        let mut enis: Vec<Eni> = Vec::new();
        loop {
            let page = self.one(now, &question)?;
            enis.extend(page.interfaces.into_iter().map(|described| described.eni));
            question.next_token = page.next_token;
            if question.next_token.is_none() {
                return Ok(CloudAnswer::Enis(enis));
            }
        }
    }

    fn one<C: Call>(&mut self, now: Timestamp, call: &C) -> Result<C::Output, CloudFault> {
        let result = self.ask(now, call).map_err(|(class, text)| CloudFault {
            class,
            text: format!("{}: {text}", C::ACTION),
        });
        if let Err(fault) = &result {
            self.said.insert(fault.class);
        }
        result
    }

    fn ask<C: Call>(
        &mut self,
        now: Timestamp,
        call: &C,
    ) -> Result<C::Output, (FaultClass, String)> {
        call.check()
            .map_err(|error| (FaultClass::Invalid, error.to_string()))?;
        *self.calls.entry(C::ACTION).or_default() += 1;
        if !self.admit(now, C::ACTION) {
            return Err((classify("Throttling", 400), "the minute is full".into()));
        }
        if let Some(code) = self.refused.get(C::ACTION).filter(|_| !self.repeats) {
            return Err((classify(code, 403), code.clone()));
        }
        let request = self.request(now, call);
        let answer = self.region.handle(now, &request);
        decode(call, &answer).inspect_err(|(class, text)| {
            if let FaultClass::Exhausted(Exhausted::EniPerInstance | Exhausted::AddressPerEni) =
                class
            {
                self.quota = Some(text.clone());
            }
        })
    }

    /// Counts a call. The cloud counts by API, account and minute; other tenants come first.
    fn admit(&mut self, now: Timestamp, action: &'static str) -> bool {
        let minute = now.as_nanos() / MINUTE;
        if minute != self.minute {
            self.minute = minute;
            self.window.clear();
        }
        let ours = self.window.entry(action).or_default();
        *ours += 1;
        let limit = if self.limit == 0 {
            real_limit(action)
        } else {
            self.limit
        };
        if *ours > limit {
            self.over = Some(format!("{ours} calls of {action} in one minute"));
        }
        let full = *ours + self.tenants > limit;
        self.throttled += u64::from(full);
        !full
    }

    fn request<C: Call>(&mut self, now: Timestamp, call: &C) -> ApiRequest {
        self.nonce += 1;
        let stamp = Stamp {
            timestamp: &utc(now),
            nonce: &format!("{:032x}", self.nonce),
        };
        let request = rpc::request(
            &self.endpoint,
            C::PRODUCT,
            C::ACTION,
            &self.name,
            call.params(),
            &self.keys,
            stamp,
        );
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let fields = request.headers().iter();
        ApiRequest {
            method: request.method().to_string(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: fields
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: request.into_body().into_bytes().to_vec(),
        }
    }

    /// What the instance's metadata shows of its interfaces.
    pub(crate) fn interfaces(&mut self, now: Timestamp, instance: &InstanceId) -> Vec<Interface> {
        let macs = self.metadata(now, instance, "").unwrap_or_default();
        let macs = macs
            .lines()
            .filter_map(|line| line.trim_end_matches('/').parse().ok());
        let macs: Vec<Mac> = macs.collect();
        // One that vanished between the list and the look is left out, as the agent does.
        macs.into_iter()
            .filter_map(|mac| self.interface(now, instance, mac))
            .collect()
    }

    fn interface(&mut self, now: Timestamp, instance: &InstanceId, mac: Mac) -> Option<Interface> {
        let path = |leaf: &str| format!("{mac}/{leaf}");
        let addresses = self.metadata(now, instance, &path("private-ipv4s"))?;
        let addresses: Vec<IpAddr> = serde_json::from_str(&addresses).ok()?;
        let prefixes = self.metadata(now, instance, &path("ipv4-prefixes"))?;
        let prefixes = serde_json::from_str(&prefixes).ok()?;
        if !self.settled.contains_key(&mac) {
            let mut leaf = |leaf: &str| self.metadata(now, instance, &path(leaf));
            let gateway: IpAddr = leaf("gateway")?.parse().ok()?;
            let subnet: IpNet = leaf("vswitch-cidr-block")?.parse().ok()?;
            let interface = Interface {
                mac,
                eni: EniId::new(leaf("network-interface-id")?).ok()?,
                addresses: BTreeSet::new(),
                prefixes: None,
                gateway: DualStack::only(Family::of(gateway), gateway),
                subnet: DualStack::only(Family::V4, subnet),
            };
            self.settled.insert(mac, interface);
        }
        let addresses = addresses.into_iter().collect();
        let settled = self.settled.get(&mac)?.clone();
        Some(Interface {
            addresses,
            prefixes,
            ..settled
        })
    }

    fn metadata(&mut self, now: Timestamp, instance: &InstanceId, path: &str) -> Option<String> {
        let request = MetadataRequest::get(format!("{MACS}{path}"));
        let answer = self.region.metadata(now, instance, &request);
        (answer.status == 200).then_some(answer.body)
    }

    /// An ENI of somebody else on an instance.
    pub(crate) fn foreign(
        &mut self,
        now: Timestamp,
        instance: &InstanceId,
    ) -> anyhow::Result<EniId> {
        let refused = |fault: CloudFault| anyhow::anyhow!("a foreign ENI: {}", fault.text);
        let token = model::ClientToken::new(format!("foreign-{}", self.nonce))?;
        let create = ecs::CreateNetworkInterface {
            vswitch: self
                .vswitches
                .first()
                .cloned()
                .ok_or_else(|| anyhow::anyhow!("no vSwitch"))?,
            security_groups: self.region.config().security_groups.clone(),
            primary_address: None,
            secondary_address_count: 1,
            ipv4_prefix_count: 0,
            description: "of somebody else".into(),
            tags: BTreeMap::from([("creator".into(), "somebody".into())]),
            resource_group: None,
            kind: ecs::NewEniKind::Secondary,
            delete_on_release: true,
            token,
        };
        let eni = self.one(now, &create).map_err(refused)?.id;
        let attach = ecs::AttachNetworkInterface {
            eni: eni.clone(),
            instance: instance.clone(),
            trunk: None,
        };
        self.one(now, &attach).map_err(refused)?;
        Ok(eni)
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.region.poll_effect()).collect()
    }

    /// The limits of an instance type as the cloud tells them.
    pub(crate) fn limits(instance_type: &str) -> anyhow::Result<model::InstanceLimits> {
        let row = cloudsim::instance_type(instance_type);
        Ok(row
            .ok_or_else(|| anyhow::anyhow!("no instance type {instance_type}"))?
            .limits)
    }
}

/// Calls an account may make of one API in a minute, as the Go project budgets them; unconfirmed.
pub(crate) fn real_limit(action: &str) -> u32 {
    match action {
        "CreateNetworkInterface" | "AttachNetworkInterface" | "DeleteNetworkInterface" => 500,
        "DescribeNetworkInterfaces" => 800,
        "DescribeVSwitches" => 300,
        _ => 400,
    }
}

fn decode<C: Call>(call: &C, answer: &ApiResponse) -> Result<C::Output, (FaultClass, String)> {
    let unknown = |text: String| (FaultClass::Unknown, text);
    if answer.delivery == Delivery::Lost {
        return Err(unknown("no answer".into()));
    }
    let document: serde_json::Value =
        serde_json::from_str(&answer.body).map_err(|error| unknown(error.to_string()))?;
    if let Some(code) = document.get("Code").and_then(|code| code.as_str()) {
        let words = document
            .get("Message")
            .and_then(|text| text.as_str())
            .unwrap_or_default();
        return Err((classify(code, answer.status), format!("{code}: {words}")));
    }
    call.decode(answer.body.as_bytes())
        .map_err(|error| unknown(error.to_string()))
}

/// `2016-02-23T12:46:24Z`. Days to a date as in Hinnant, "chrono-compatible low-level date algorithms".
fn utc(now: Timestamp) -> String {
    let seconds = now.as_nanos() / 1_000_000_000;
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_clouds() {
        let at = |seconds: u64| utc(Timestamp::from_nanos(seconds * 1_000_000_000));
        assert_eq!(at(1_456_231_584), "2016-02-23T12:46:24Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
