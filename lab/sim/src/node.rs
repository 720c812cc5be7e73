//! One node: the agent's machine, its disk, its kernel, its clock, and the runtime that calls it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem::discriminant,
    net::IpAddr,
    time::Duration,
};

use engine::{
    ledger::{Change, Entry, EntryKey, IntentCall, Ledger},
    node::{
        CloudCall, Config, EniPolicy, Exhaustion, Node, OpNumber, Policy, PrefixPolicy, Reclaim,
        VSwitchPolicy,
    },
};
use model::{ClientToken, EniId, Timestamp};

use crate::{
    cloud::{Cloud, zone},
    kernel::Kernel,
    runtime::Runtime,
    schedule::{CrashPoint, Fate, Setup},
};

/// The tag that makes an ENI ours.
pub(crate) const TAG: (&str, &str) = ("creator", "terway");

/// A node.
pub(crate) struct SimNode {
    pub(crate) config: Config,
    /// The agent's machine while it runs.
    pub(crate) machine: Option<Node>,
    /// Counts the agent's lives: what was meant for an earlier one is dropped.
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    pub(crate) kernel: Kernel,
    pub(crate) runtime: Runtime,
    /// The node's clock less the simulated time, in nanoseconds.
    pub(crate) clock: i64,
    /// How far it stepped back since the agent's last input: its driver tells by the steady clock.
    pub(crate) stepped_back: Duration,
    /// When the machine is ticked next.
    pub(crate) tick: Option<Timestamp>,
    /// Where the agent dies, and how long it stays dead.
    pub(crate) crash: Option<(CrashPoint, u64)>,
    pub(crate) fates: VecDeque<Fate>,
    /// Lists of pods the API server will not answer.
    pub(crate) deaf: u8,
    /// The last calls, by number.
    pub(crate) sent: BTreeMap<OpNumber, CloudCall>,
    /// When the thread that sets things up is free: it does one thing after the other, in order.
    pub(crate) set_up_free: Timestamp,
    /// The ENIs' links were made anew, and the agent has not been told.
    pub(crate) relinked: bool,
    /// How late a new ENI appears on the host.
    pub(crate) link_delay: Duration,
    /// Ticks in the current simulated minute: a machine that spins asks for too many.
    pub(crate) ticks: (u64, u32),
    /// Calls to the cloud that do not give back, for the figures of a node at rest.
    pub(crate) calls: u64,
    /// What people were just told has run out.
    pub(crate) ran_out: Option<Exhaustion>,
}

impl SimNode {
    pub(crate) fn new(
        setup: &Setup,
        number: usize,
        cloud: &mut Cloud,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let instance =
            cloud.start_instance(now, &format!("node-{number}"), &setup.instance_type)?;
        let limits = Cloud::limits(&setup.instance_type)?;
        let foreign = u32::try_from(setup.foreign)?;
        let config = Config {
            instance: instance.id,
            zone: zone(),
            primary_mac: instance.primary_mac,
            limits,
            enis_max: limits.enis - 1 - foreign,
            vswitches: cloud.pool_vswitches(),
            security_groups: cloud.region.config().security_groups.clone(),
            tags: BTreeMap::from([(TAG.0.to_owned(), TAG.1.to_owned())]),
            idle_min: setup.idle_min,
            idle_max: setup.idle_max,
            cooldown: Duration::from_secs(setup.cooldown),
            mtu: 1500,
            policy: policy(setup),
        };
        Ok(Self {
            config,
            machine: None,
            life: 0,
            disk: Disk::default(),
            kernel: Kernel::default(),
            runtime: Runtime::default(),
            clock: 0,
            stepped_back: Duration::ZERO,
            tick: None,
            crash: None,
            fates: VecDeque::new(),
            deaf: 0,
            sent: BTreeMap::new(),
            set_up_free: now,
            relinked: false,
            link_delay: Duration::ZERO,
            ticks: (0, 0),
            calls: 0,
            ran_out: None,
        })
    }

    /// The node's clock at the simulated time `now`.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_nanos(now.as_nanos().saturating_add_signed(self.clock))
    }

    /// The simulated time at which the node's clock shows `at`.
    pub(crate) fn when(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_nanos(at.as_nanos().saturating_add_signed(-self.clock))
    }

    /// Whether the agent dies at this point, and for how long; counts down to it.
    pub(crate) fn dies(&mut self, here: CrashPoint) -> Option<u64> {
        let (point, down) = self.crash.as_mut()?;
        if discriminant(point) != discriminant(&here) {
            return None;
        }
        let down = *down;
        let left = match point {
            CrashPoint::BeforeWrite(left)
            | CrashPoint::AfterWrite(left)
            | CrashPoint::BeforeCall(left)
            | CrashPoint::AfterCall(left)
            | CrashPoint::BeforeKernel(left)
            | CrashPoint::AfterKernel(left) => left,
            CrashPoint::Now => return None,
        };
        if *left > 0 {
            *left -= 1;
            return None;
        }
        self.crash = None;
        Some(down)
    }
}

fn policy(setup: &Setup) -> Policy {
    let enis = match setup.spread {
        true => EniPolicy::LeastIps,
        false => EniPolicy::MostIps,
    };
    // Batches as small as they come, so that one never does for a prefix by chance.
    let reclaim = setup.reclaim.map(|seconds| Reclaim {
        after: Duration::from_secs(seconds),
        batch: 5,
        interval: Duration::from_secs(60),
        jitter_per_mille: 100,
    });
    let vswitches = match setup.any_vswitch {
        true => VSwitchPolicy::Random,
        false => VSwitchPolicy::Ordered,
    };
    Policy {
        enis,
        vswitches,
        prefixes: setup.prefixes.map(|_| PrefixPolicy { least: setup.least }),
        reclaim,
        ..Policy::default()
    }
}

/// What survives the agent: the ledger's rows.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    rows: BTreeMap<EntryKey, Entry>,
    /// Writes that will fail.
    pub(crate) refuse: u8,
}

impl Disk {
    /// Writes a batch, all of it.
    pub(crate) fn write(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(entry) => {
                    self.rows.insert(entry.key(), entry.clone());
                }
                Change::Delete(key) => {
                    self.rows.remove(key);
                    // As the agent's store does: an ENI takes its addresses along.
                    if let EntryKey::Eni(eni) = key {
                        self.rows.retain(
                            |_, row| !matches!(row, Entry::Address(address) if address.eni == *eni),
                        );
                    }
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    pub(crate) fn has(&self, row: &EntryKey) -> bool {
        self.rows.contains_key(row)
    }

    /// The ENI whose address this is.
    pub(crate) fn eni_of(&self, address: IpAddr) -> Option<&EniId> {
        match self.rows.get(&EntryKey::Address(address)) {
            Some(Entry::Address(entry)) => Some(&entry.eni),
            _ => None,
        }
    }

    /// Whether one more ENI could be asked for by a node that may have `most`.
    pub(crate) fn eni_to_come(&self, most: u32) -> bool {
        let mut rows = self.rows.values();
        let enis = rows.clone().filter(|row| matches!(row, Entry::Eni(_)));
        let creating = rows.any(
            |row| matches!(row, Entry::Intent(it) if matches!(it.call, IntentCall::CreateEni(_))),
        );
        !creating && enis.count() < most as usize
    }

    pub(crate) fn has_intent(&self, token: &ClientToken) -> bool {
        let mut rows = self.rows.values();
        rows.any(|row| matches!(row, Entry::Intent(intent) if intent.token == *token))
    }

    /// The ledger a new life of the agent starts from.
    pub(crate) fn ledger(&self) -> Result<Ledger, String> {
        Ledger::restore(self.rows.values().cloned().collect()).map_err(|error| error.to_string())
    }
}
