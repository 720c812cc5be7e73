//! A cloud as far as one node needs it: ENIs, addresses, tokens, quotas, and an attach that takes a
//! second. Grants exactly what its limits allow.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use engine::{
    ledger::CreateEni,
    node::{Api, CloudAnswer, CloudCall, CloudFault, Config, Interface},
};
use model::{
    DualStack, Eni, EniId, EniKind, EniStatus, Exhausted, FaultClass, InterfaceName, Ipv4Prefix,
    Mac, PrivateIp, Timestamp, VSwitch, VSwitchId, net::Link,
};

const ATTACH: Duration = Duration::from_secs(1);

type Answer = Result<CloudAnswer, CloudFault>;

pub(crate) struct Cloud {
    config: Config,
    enis: BTreeMap<EniId, Eni>,
    attaching: BTreeMap<EniId, Timestamp>,
    tokens: BTreeMap<String, CloudAnswer>,
    vswitches: BTreeMap<VSwitchId, u32>,
    /// Prefixes that are left in the reserved blocks of each.
    blocks: BTreeMap<VSwitchId, u32>,
    /// Whether metadata speaks of prefixes.
    pub(crate) shows_prefixes: bool,
    made: u32,
    addresses: u32,
    prefixes: u32,
    /// Calls that create something are refused so.
    refuses: Option<FaultClass>,
    /// Trunks are.
    refuses_trunks: Option<FaultClass>,
    trails: bool,
    /// Calls of these APIs are refused so.
    refused: BTreeMap<Api, FaultClass>,
    /// ENIs whose link does not come.
    linkless: BTreeSet<EniId>,
    /// Calls of each API so far.
    calls: BTreeMap<Api, u32>,
}

fn refuse(class: FaultClass) -> Answer {
    Err(CloudFault {
        class,
        text: format!("refused: {class}"),
    })
}

impl Cloud {
    pub(crate) fn new(config: &Config) -> Self {
        let mut cloud = Self {
            config: config.clone(),
            enis: BTreeMap::new(),
            attaching: BTreeMap::new(),
            tokens: BTreeMap::new(),
            vswitches: config
                .vswitches
                .iter()
                .map(|id| (id.clone(), 200))
                .collect(),
            blocks: BTreeMap::new(),
            shows_prefixes: true,
            made: 0,
            addresses: 0,
            prefixes: 0,
            refuses: None,
            refuses_trunks: None,
            trails: false,
            refused: BTreeMap::new(),
            linkless: BTreeSet::new(),
            calls: BTreeMap::new(),
        };
        let mut primary = cloud.make(&config.vswitches[0].clone(), 1, BTreeMap::new());
        primary.mac = config.primary_mac;
        primary.kind = EniKind::Primary;
        primary.status = EniStatus::InUse;
        primary.instance = Some(config.instance.clone());
        cloud.enis.insert(primary.id.clone(), primary);
        cloud
    }

    fn make(&mut self, vswitch: &VSwitchId, count: u32, tags: BTreeMap<String, String>) -> Eni {
        self.made += 1;
        let last = u8::try_from(self.made).unwrap();
        Eni {
            id: EniId::new(format!("eni-{}", self.made)).unwrap(),
            mac: Mac([0, 0x16, 0x3e, 1, 0, last]),
            kind: EniKind::Secondary,
            status: EniStatus::Available,
            instance: None,
            vswitch: vswitch.clone(),
            vpc: None,
            zone: self.config.zone.clone(),
            security_groups: Vec::new(),
            addresses: (0..count)
                .map(|n| PrivateIp {
                    address: self.next(),
                    primary: n == 0,
                })
                .collect(),
            prefixes: Vec::new(),
            tags,
        }
    }

    /// Prefixes the vSwitch has, all or none.
    fn cut(&mut self, vswitch: &VSwitchId, count: u32) -> Result<Vec<Ipv4Prefix>, FaultClass> {
        let left = self.blocks.entry(vswitch.clone()).or_default();
        *left = left
            .checked_sub(count)
            .ok_or(FaultClass::Exhausted(Exhausted::VSwitch))?;
        let first = self.prefixes;
        self.prefixes += count;
        let prefix = |n| Ipv4Prefix::around(Ipv4Addr::from(0x0a01_0000 + 16 * n));
        Ok((first..self.prefixes).map(prefix).collect())
    }

    /// That many prefixes are left in a vSwitch.
    pub(crate) fn reserve(&mut self, vswitch: &str, prefixes: u32) {
        self.blocks
            .insert(VSwitchId::new(vswitch).unwrap(), prefixes);
    }

    fn next(&mut self) -> IpAddr {
        self.addresses += 1;
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + self.addresses))
    }

    pub(crate) fn fill(&mut self, vswitch: &str) {
        self.leave(vswitch, 0);
    }

    /// Leaves that many addresses free in a vSwitch.
    pub(crate) fn leave(&mut self, vswitch: &str, free: u32) {
        self.vswitches
            .insert(VSwitchId::new(vswitch).unwrap(), free);
    }

    pub(crate) fn refuse(&mut self, class: impl Into<Option<FaultClass>>) {
        self.refuses = class.into();
    }

    /// Calls of an API are refused from now on, or no more.
    pub(crate) fn refuse_api(&mut self, api: Api, class: impl Into<Option<FaultClass>>) {
        match class.into() {
            Some(class) => self.refused.insert(api, class),
            None => self.refused.remove(&api),
        };
    }

    /// The node never sees the ENI's link, or sees it again.
    pub(crate) fn lose_link(&mut self, eni: &EniId, lost: bool) {
        self.linkless.remove(eni);
        self.linkless.extend(lost.then(|| eni.clone()));
    }

    /// Somebody deletes the ENI by hand, whatever is under way with it.
    pub(crate) fn delete_by_hand(&mut self, eni: &EniId) {
        self.enis.remove(eni);
        self.attaching.remove(eni);
    }

    /// Lists show of an ENI's addresses only the first: they trail behind the rest.
    pub(crate) fn trail(&mut self, trails: bool) {
        self.trails = trails;
    }

    pub(crate) fn refuse_trunks(&mut self, class: FaultClass) {
        self.refuses_trunks = Some(class);
    }

    /// The ENI is of another kind.
    pub(crate) fn turn_into(&mut self, eni: &EniId, kind: EniKind) {
        self.enis.get_mut(eni).unwrap().kind = kind;
    }

    /// Calls of these APIs so far.
    pub(crate) fn called(&self, apis: &[Api]) -> u32 {
        apis.iter().filter_map(|api| self.calls.get(api)).sum()
    }

    /// An ENI of somebody else on the node.
    pub(crate) fn add_foreign(&mut self, tags: &[(&str, &str)]) -> EniId {
        let tags = tags.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let vswitch = self.config.vswitches[0].clone();
        let mut eni = self.make(&vswitch, 2, tags.collect());
        eni.status = EniStatus::InUse;
        eni.instance = Some(self.config.instance.clone());
        let id = eni.id.clone();
        self.enis.insert(id.clone(), eni);
        id
    }

    pub(crate) fn tag(&mut self, eni: &EniId, key: &str, value: &str) {
        let tags = &mut self.enis.get_mut(eni).unwrap().tags;
        tags.insert(key.into(), value.into());
    }

    pub(crate) fn forget_vswitches(&mut self) {
        self.vswitches.clear();
    }

    pub(crate) fn secondary_enis(&self) -> BTreeMap<EniId, BTreeSet<IpAddr>> {
        let secondary = self
            .enis
            .values()
            .filter(|eni| matches!(eni.kind, EniKind::Secondary | EniKind::Trunk));
        secondary
            .map(|eni| {
                let own = eni.addresses.iter().map(|ip| ip.address);
                let prefixed = eni.prefixes.iter().flat_map(|prefix| prefix.addresses());
                (eni.id.clone(), own.chain(prefixed).collect())
            })
            .collect()
    }

    fn attached(&self) -> impl Iterator<Item = &Eni> {
        self.enis
            .values()
            .filter(|eni| eni.status == EniStatus::InUse)
    }

    fn advance(&mut self, now: Timestamp) {
        let due: Vec<EniId> = self
            .attaching
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.attaching.remove(&id);
            self.enis.get_mut(&id).unwrap().status = EniStatus::InUse;
        }
    }

    pub(crate) fn interfaces(&mut self, now: Timestamp) -> Vec<Interface> {
        self.advance(now);
        let gateway: IpAddr = "10.0.0.253".parse().unwrap();
        self.attached()
            .map(|eni| Interface {
                mac: eni.mac,
                eni: eni.id.clone(),
                addresses: eni.addresses.iter().map(|ip| ip.address).collect(),
                prefixes: self
                    .shows_prefixes
                    .then(|| eni.prefixes.iter().copied().collect()),
                gateway: DualStack {
                    v4: Some(gateway),
                    v6: None,
                },
                subnet: DualStack {
                    v4: Some("10.0.0.0/24".parse().unwrap()),
                    v6: None,
                },
            })
            .collect()
    }

    pub(crate) fn links(&mut self, now: Timestamp) -> Vec<Link> {
        self.advance(now);
        let link = |(index, eni): (u32, &Eni)| Link {
            name: InterfaceName::new(format!(
                "eth-{}",
                eni.id.as_str().trim_start_matches("eni-")
            ))
            .unwrap(),
            index,
            mac: eni.mac,
            up: true,
        };
        let seen = |(_, eni): &(u32, &Eni)| !self.linkless.contains(&eni.id);
        (2..).zip(self.attached()).filter(seen).map(link).collect()
    }

    pub(crate) fn call(&mut self, now: Timestamp, call: CloudCall) -> Answer {
        self.advance(now);
        *self.calls.entry(Api::of(&call)).or_default() += 1;
        let creates = matches!(
            call,
            CloudCall::CreateEni(..)
                | CloudCall::AssignAddresses(..)
                | CloudCall::AssignPrefixes(..)
        );
        if let Some(class) = self.refused.get(&Api::of(&call)) {
            return refuse(*class);
        }
        if let (true, Some(class)) = (creates, self.refuses) {
            return refuse(class);
        }
        match call {
            CloudCall::CreateEni(token, create) => {
                if let Some(answer) = self.tokens.get(token.as_str()) {
                    return Ok(answer.clone());
                }
                self.create(create).inspect(|answer| {
                    self.tokens.insert(token.into(), answer.clone());
                })
            }
            CloudCall::AssignAddresses(token, id, count) => {
                if let Some(answer) = self.tokens.get(token.as_str()) {
                    return Ok(answer.clone());
                }
                self.assign(&id, count).inspect(|answer| {
                    self.tokens.insert(token.into(), answer.clone());
                })
            }
            CloudCall::AssignPrefixes(token, id, count) => {
                if let Some(answer) = self.tokens.get(token.as_str()) {
                    return Ok(answer.clone());
                }
                self.assign_prefixes(&id, count).inspect(|answer| {
                    self.tokens.insert(token.into(), answer.clone());
                })
            }
            CloudCall::UnassignPrefixes(id, prefixes) => {
                let vswitch = self.enis.get(&id).map(|eni| eni.vswitch.clone());
                if let Some(left) = vswitch.and_then(|id| self.blocks.get_mut(&id)) {
                    *left += u32::try_from(prefixes.len()).unwrap();
                }
                self.change(&id, |eni| {
                    eni.prefixes.retain(|prefix| !prefixes.contains(prefix));
                    Ok(())
                })
            }
            CloudCall::AttachEni(id) => self.attach(now, &id),
            CloudCall::DetachEni(id) => self.change(&id, |eni| {
                if eni.status != EniStatus::InUse {
                    return Err(FaultClass::Conflict);
                }
                eni.status = EniStatus::Available;
                eni.instance = None;
                Ok(())
            }),
            CloudCall::DeleteEni(id) => {
                let answer = self.change(&id, |eni| match eni.status {
                    EniStatus::Available => Ok(()),
                    _ => Err(FaultClass::Conflict),
                });
                if answer.is_ok() {
                    self.enis.remove(&id);
                }
                answer
            }
            CloudCall::UnassignAddresses(id, addresses) => self.change(&id, |eni| {
                eni.addresses
                    .retain(|ip| ip.primary || !addresses.contains(&ip.address));
                Ok(())
            }),
            CloudCall::DescribeNode => Ok(CloudAnswer::Enis(self.here())),
            CloudCall::DescribeEnis(ids) => {
                let asked = ids.iter().filter_map(|id| self.enis.get(id).cloned());
                Ok(CloudAnswer::Enis(asked.collect()))
            }
            CloudCall::FindEni(token) => {
                let made = self.made_under(token.as_str());
                Ok(CloudAnswer::Enis(made.into_iter().collect()))
            }
            CloudCall::DescribeVSwitches(ids) => {
                let known = ids.into_iter().filter_map(|id| {
                    let available_addresses = *self.vswitches.get(&id)?;
                    let zone = self.config.zone.clone();
                    let cidr = "10.0.0.0/24".parse().unwrap();
                    Some(VSwitch {
                        id,
                        zone,
                        available_addresses,
                        cidr,
                        ipv6_cidr: None,
                    })
                });
                Ok(CloudAnswer::VSwitches(known.collect()))
            }
        }
    }

    fn here(&self) -> Vec<Eni> {
        let here = self.enis.values().filter(|eni| eni.instance.is_some());
        let mut here: Vec<_> = here.cloned().collect();
        for eni in here.iter_mut().filter(|_| self.trails) {
            eni.addresses.retain(|ip| ip.primary);
        }
        here
    }

    fn made_under(&self, token: &str) -> Option<Eni> {
        match self.tokens.get(token)? {
            CloudAnswer::Created(eni) => self.enis.get(&eni.id).cloned(),
            _ => None,
        }
    }

    fn create(&mut self, create: CreateEni) -> Answer {
        if let (true, Some(class)) = (create.trunk, self.refuses_trunks) {
            return refuse(class);
        }
        let vswitch = create.vswitch;
        if let Err(class) = self.take(&vswitch, create.address_count) {
            return refuse(class);
        }
        let prefixes = match self.cut(&vswitch, create.prefix_count) {
            Ok(prefixes) => prefixes,
            Err(class) => {
                *self.vswitches.get_mut(&vswitch).unwrap() += create.address_count;
                return refuse(class);
            }
        };
        let mut eni = self.make(&vswitch, create.address_count, create.tags);
        eni.prefixes = prefixes;
        if create.trunk {
            eni.kind = EniKind::Trunk;
        }
        self.enis.insert(eni.id.clone(), eni.clone());
        Ok(CloudAnswer::Created(eni))
    }

    fn take(&mut self, vswitch: &VSwitchId, count: u32) -> Result<(), FaultClass> {
        let free = self.vswitches.get_mut(vswitch).ok_or(FaultClass::Invalid)?;
        *free = free
            .checked_sub(count)
            .ok_or(FaultClass::Exhausted(Exhausted::VSwitch))?;
        Ok(())
    }

    fn assign(&mut self, id: &EniId, count: u32) -> Answer {
        let Some(eni) = self.enis.get(id) else {
            return refuse(FaultClass::Gone);
        };
        let vswitch = eni.vswitch.clone();
        if !self.fits(eni, count) {
            return refuse(FaultClass::Exhausted(Exhausted::AddressPerEni));
        }
        if let Err(class) = self.take(&vswitch, count) {
            return refuse(class);
        }
        let new: Vec<IpAddr> = (0..count).map(|_| self.next()).collect();
        let eni = self.enis.get_mut(id).unwrap();
        eni.addresses.extend(new.iter().map(|ip| PrivateIp {
            address: *ip,
            primary: false,
        }));
        Ok(CloudAnswer::Assigned(new))
    }

    fn fits(&self, eni: &Eni, more: u32) -> bool {
        let has = u32::try_from(eni.addresses.len() + eni.prefixes.len()).unwrap();
        has + more <= self.config.limits.ipv4_per_eni
    }

    fn assign_prefixes(&mut self, id: &EniId, count: u32) -> Answer {
        let Some(eni) = self.enis.get(id) else {
            return refuse(FaultClass::Gone);
        };
        let vswitch = eni.vswitch.clone();
        if !self.fits(eni, count) {
            return refuse(FaultClass::Exhausted(Exhausted::AddressPerEni));
        }
        match self.cut(&vswitch, count) {
            Ok(prefixes) => {
                self.enis.get_mut(id).unwrap().prefixes.extend(&prefixes);
                Ok(CloudAnswer::AssignedPrefixes(prefixes))
            }
            Err(class) => refuse(class),
        }
    }

    fn attach(&mut self, now: Timestamp, id: &EniId) -> Answer {
        let here = self
            .enis
            .values()
            .filter(|eni| eni.instance.is_some())
            .count();
        if u32::try_from(here).unwrap() >= self.config.limits.enis {
            return refuse(FaultClass::Exhausted(Exhausted::EniPerInstance));
        }
        let instance = self.config.instance.clone();
        let answer = self.change(id, |eni| {
            if eni.status != EniStatus::Available {
                return Err(FaultClass::Conflict);
            }
            eni.status = EniStatus::Attaching;
            eni.instance = Some(instance);
            Ok(())
        });
        if answer.is_ok() {
            self.attaching.insert(id.clone(), now.after(ATTACH));
        }
        answer
    }

    fn change(
        &mut self,
        id: &EniId,
        change: impl FnOnce(&mut Eni) -> Result<(), FaultClass>,
    ) -> Answer {
        let Some(eni) = self.enis.get_mut(id) else {
            return refuse(FaultClass::Gone);
        };
        match change(eni) {
            Ok(()) => Ok(CloudAnswer::Accepted),
            Err(class) => refuse(class),
        }
    }
}
