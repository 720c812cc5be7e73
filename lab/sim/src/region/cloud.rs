//! A cloud that makes ENIs under tokens, moves them in its own time and counts calls by the minute.
//!
//! A model of its own: the control plane's calls carry more than `cloudsim` would be asked about here, and
//! ten thousand ENIs must cost seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use engine::{
    budget::Api,
    cluster::Listed,
    podeni::{Answer, Call, CreateEni, NewEni, SeenEni},
};
use model::{
    ClientToken, DualStack, Eni, EniId, EniKind, EniStatus, Exhausted, FaultClass, InstanceId, Mac,
    PrivateIp, SecurityGroupId, Timestamp, VSwitch, VSwitchId, ZoneId,
    podeni::{EDITION_TAG, OwnedEni},
};

use super::schedule::Setup;

/// An ENI as it is.
#[derive(Debug)]
pub(super) struct CloudEni {
    pub(super) id: EniId,
    pub(super) address: IpAddr,
    pub(super) status: EniStatus,
    /// Instance, and the trunk there.
    pub(super) on: Option<(InstanceId, Option<EniId>)>,
    settles: Timestamp,
    /// For whom it was made: see [`made_for`].
    pub(super) group: String,
    /// The edition of the PodNetworking that its pods share.
    pub(super) edition: Option<String>,
    pub(super) security_groups: Vec<SecurityGroupId>,
    /// Under which token it was made.
    pub(super) token: ClientToken,
    pub(super) vswitch: VSwitchId,
    delete_on_release: bool,
    serial: u16,
}

/// The cloud.
#[derive(Debug)]
pub(super) struct Cloud {
    pub(super) enis: BTreeMap<EniId, CloudEni>,
    /// Those under way, so that a cloud of thousands is not searched.
    moving: BTreeSet<(Timestamp, EniId)>,
    tokens: BTreeMap<ClientToken, NewEni>,
    made: u16,
    /// How long an attach or detach takes.
    moves: Duration,
    /// Members a trunk takes.
    members: usize,
    tags: BTreeMap<String, String>,
    /// vSwitches there are, and whether each is full.
    pub(super) vswitches: BTreeMap<VSwitchId, bool>,
    /// Calls of each API a minute by others.
    pub(super) tenants: u32,
    windows: BTreeMap<(Api, u64), u32>,
    /// Calls by API, those refused for their number included.
    pub(super) calls: BTreeMap<Api, u64>,
    /// Calls refused for their number.
    pub(super) throttled: u64,
}

/// The name of an ENI's maker: the resource group it named, or else the interface; and for an ENI that no
/// pod asked for, [`NOBODY`].
pub(super) fn made_for(create: &CreateEni) -> String {
    let group = create.resource_group.clone();
    group.unwrap_or_else(|| create.interface.to_string())
}

/// The interface of an ENI that no pod asked for.
pub(super) const NOBODY: &str = "eth0";

/// The only zone.
pub(super) fn zone() -> ZoneId {
    ZoneId::new("z-a").expect("a literal id")
}

impl Cloud {
    pub(super) fn new(
        setup: &Setup,
        tags: BTreeMap<String, String>,
        vswitches: &[VSwitchId],
    ) -> Self {
        Self {
            enis: BTreeMap::new(),
            moving: BTreeSet::new(),
            tokens: BTreeMap::new(),
            made: 0,
            moves: Duration::from_millis(setup.moves),
            members: setup.members as usize,
            tags,
            vswitches: vswitches.iter().map(|id| (id.clone(), false)).collect(),
            tenants: 0,
            windows: BTreeMap::new(),
            calls: BTreeMap::new(),
            throttled: 0,
        }
    }

    /// Whether the minute has room for one more call.
    pub(super) fn counted(
        &mut self,
        now: Timestamp,
        api: Api,
        limit: u32,
    ) -> Result<(), FaultClass> {
        *self.calls.entry(api).or_default() += 1;
        let minute = now.since(Timestamp::EPOCH).as_secs() / 60;
        let used = self.windows.entry((api, minute)).or_default();
        *used += 1;
        if *used + self.tenants <= limit {
            return Ok(());
        }
        self.throttled += 1;
        Err(FaultClass::Throttled)
    }

    /// Finishes what is due.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.moving.first().cloned()
            && at <= now
        {
            self.moving.pop_first();
            let Some(eni) = self.enis.get_mut(&id).filter(|eni| eni.settles == at) else {
                continue;
            };
            match eni.status {
                EniStatus::Attaching => eni.status = EniStatus::InUse,
                EniStatus::Detaching => (eni.status, eni.on) = (EniStatus::Available, None),
                _ => {}
            }
        }
    }

    /// An instance is released.
    pub(super) fn release(&mut self, instance: &InstanceId) {
        let on = |eni: &CloudEni| eni.on.as_ref().is_some_and(|on| on.0 == *instance);
        self.enis
            .retain(|_, eni| !(on(eni) && eni.delete_on_release));
        for eni in self.enis.values_mut().filter(|eni| on(eni)) {
            (eni.status, eni.on) = (EniStatus::Available, None);
        }
    }

    /// The ENI as a describe shows it.
    pub(super) fn seen(&self, id: &EniId) -> Option<SeenEni> {
        let eni = self.enis.get(id)?;
        let (instance, trunk) = eni.on.clone().unzip();
        let trunk = trunk.flatten();
        let vlan = trunk.as_ref().map(|_| eni.serial);
        Some(SeenEni {
            status: eni.status,
            kind: EniKind::Member,
            instance,
            trunk,
            vlan: vlan.filter(|_| eni.status == EniStatus::InUse),
        })
    }

    /// All ENIs as a list shows them.
    pub(super) fn list(&self) -> Vec<Listed> {
        let tags = |eni: &CloudEni| {
            let edition = eni.edition.iter();
            let edition = edition.map(|one| (EDITION_TAG.to_owned(), one.clone()));
            self.tags.clone().into_iter().chain(edition).collect()
        };
        let listed = |eni: &CloudEni| Listed {
            eni: Eni {
                id: eni.id.clone(),
                mac: mac(eni.serial),
                kind: EniKind::Member,
                status: eni.status,
                instance: eni.on.as_ref().map(|(instance, _)| instance.clone()),
                vswitch: eni.vswitch.clone(),
                vpc: None,
                zone: zone(),
                security_groups: eni.security_groups.clone(),
                addresses: vec![PrivateIp {
                    address: eni.address,
                    primary: true,
                }],
                prefixes: vec![],
                tags: tags(eni),
            },
            trunk: eni.on.as_ref().and_then(|(_, trunk)| trunk.clone()),
        };
        self.enis.values().map(listed).collect()
    }

    /// A vSwitch as a describe shows it.
    pub(super) fn vswitch(&self, id: &VSwitchId) -> Option<VSwitch> {
        let full = self.vswitches.get(id)?;
        Some(VSwitch {
            id: id.clone(),
            zone: zone(),
            available_addresses: if *full { 0 } else { 60_000 },
            cidr: "10.0.0.0/16".parse().expect("a literal block"),
            ipv6_cidr: None,
        })
    }

    pub(super) fn carry_out(&mut self, now: Timestamp, call: &Call) -> Result<Answer, FaultClass> {
        let settles = now.after(self.moves);
        let (id, status, on) = match call {
            Call::Create(create) => return self.create(now, create),
            Call::Look(eni) => return Ok(self.seen(eni).map_or(Answer::Missing, Answer::Seen)),
            Call::Delete(id) => {
                let eni = self.enis.get(id).ok_or(FaultClass::Gone)?;
                if eni.status != EniStatus::Available {
                    return Err(FaultClass::Conflict);
                }
                self.enis.remove(id);
                return Ok(Answer::Accepted);
            }
            Call::Attach {
                eni,
                instance,
                trunk,
            } => (eni, EniStatus::Available, Some((instance, trunk))),
            Call::Detach { eni, .. } => (eni, EniStatus::InUse, None),
        };
        if let Some((_, Some(trunk))) = &on {
            let theirs = |eni: &&CloudEni| {
                eni.on
                    .as_ref()
                    .is_some_and(|on| on.1.as_ref() == Some(trunk))
            };
            if self.enis.values().filter(theirs).count() >= self.members {
                return Err(FaultClass::Exhausted(Exhausted::EniPerInstance));
            }
        }
        let eni = self.enis.get_mut(id).ok_or(FaultClass::Gone)?;
        let elsewhere = |instance: &InstanceId| eni.on.as_ref().is_none_or(|on| on.0 != *instance);
        if eni.status != status
            || matches!(call, Call::Detach { instance, .. } if elsewhere(instance))
        {
            return Err(FaultClass::Conflict);
        }
        match on {
            Some((instance, trunk)) => {
                eni.status = EniStatus::Attaching;
                eni.on = Some((instance.clone(), trunk.clone()));
            }
            None => eni.status = EniStatus::Detaching,
        }
        eni.settles = settles;
        self.moving.insert((settles, id.clone()));
        Ok(Answer::Accepted)
    }

    fn create(&mut self, now: Timestamp, create: &CreateEni) -> Result<Answer, FaultClass> {
        if let Some(known) = self.tokens.get(&create.token) {
            return Ok(Answer::Created(Box::new(known.clone())));
        }
        match self.vswitches.get(&create.vswitch) {
            None => return Err(FaultClass::Invalid),
            Some(true) => return Err(FaultClass::Exhausted(Exhausted::VSwitch)),
            Some(false) => {}
        }
        self.made += 1;
        let [high, low] = self.made.to_be_bytes();
        let id = EniId::new(format!("eni-{}", self.made)).expect("a literal id");
        let promised = create.addresses.v4;
        let address = promised.unwrap_or(IpAddr::from([10, 0, high, low]));
        if promised.is_some() && self.enis.values().any(|eni| eni.address == address) {
            return Err(FaultClass::Invalid);
        }
        let eni = CloudEni {
            id: id.clone(),
            address,
            status: EniStatus::Available,
            on: None,
            settles: now,
            group: made_for(create),
            edition: create.edition.clone(),
            security_groups: create.security_groups.clone(),
            token: create.token.clone(),
            vswitch: create.vswitch.clone(),
            delete_on_release: create.delete_on_release,
            serial: self.made,
        };
        let new = NewEni {
            eni: OwnedEni {
                id: id.clone(),
                mac: mac(self.made),
                vpc: None,
            },
            addresses: DualStack {
                v4: Some(address),
                v6: None,
            },
        };
        self.enis.insert(id, eni);
        self.tokens.insert(create.token.clone(), new.clone());
        Ok(Answer::Created(Box::new(new)))
    }
}

fn mac(serial: u16) -> Mac {
    let [high, low] = serial.to_be_bytes();
    Mac::locally_administered([2, 0, 0, 0, high, low])
}
