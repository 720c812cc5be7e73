//! The API server as the control plane meets it: pods, the records of their ENIs and one PodNetworking,
//! with versions, and writes in two halves.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use engine::{
    cluster::{ClusterPod, Input, Store, WriteFault},
    podeni::{Node, Pod},
};
use model::{
    EniId, InstanceId, InterfaceName, PodKey, PodUid, SecurityGroupId, Timestamp, VSwitchId,
    podeni::{NetworkRequest, Phase, PodEni},
    podnetworking::{
        EniAttachment, Labels, PodNetworking, Release, Selector, Tenure, VSwitchPreference, Warm,
    },
};

use super::{
    cloud::zone,
    schedule::{Ready, Setup},
};

/// How long a fixed address of some pods is kept: the least that may be promised.
const KEPT: Duration = Duration::from_secs(300);

/// The name of the only PodNetworking.
pub(super) const PLANE: &str = "plane";

/// A pod, and what it runs with.
#[derive(Debug)]
pub(super) struct LivePod {
    pub(super) pod: Pod,
    /// The ENIs it was started with, whatever became of its record since.
    pub(super) uses: Vec<(EniId, IpAddr)>,
    /// Whether its status names their addresses yet.
    pub(super) reported: bool,
    /// When it was created.
    pub(super) since: Timestamp,
}

/// The objects.
#[derive(Debug)]
pub(super) struct ApiServer {
    pub(super) nodes: Vec<Node>,
    pub(super) pods: BTreeMap<PodKey, LivePod>,
    pub(super) records: BTreeMap<PodKey, PodEni>,
    pub(super) networking: PodNetworking,
    /// Whether pods with elastic addresses share ENIs.
    shares: bool,
    editions: u64,
    versions: u64,
    uids: u64,
}

/// The pod name with this number.
pub(super) fn name(number: u16) -> PodKey {
    PodKey::new("default", format!("web-{number}")).expect("a literal name")
}

/// For how long the address of a pod with this number is its own, and how many interfaces it has.
pub(super) fn wish(number: u16) -> (Tenure, usize) {
    let tenure = match number % 3 {
        0 => Tenure::Elastic,
        1 => Tenure::Fixed(Release::After(KEPT)),
        _ => Tenure::Fixed(Release::Never),
    };
    (tenure, if number % 7 == 5 { 2 } else { 1 })
}

/// The resource group of a name's ENIs: by it the cloud's truth tells for whom each was made. Pods that
/// share ENIs name no group: their interface has this name.
pub(super) fn group(key: &PodKey) -> String {
    format!("rg-{}", key.name)
}

fn node(number: usize, members: u32) -> Node {
    Node {
        name: format!("n{number}"),
        instance: InstanceId::new(format!("i-{number}")).expect("a literal id"),
        zone: zone(),
        trunk: Some(EniId::new(format!("eni-trunk-{number}")).expect("a literal id")),
        members: Some(members),
    }
}

fn edition(number: u64) -> (String, Vec<SecurityGroupId>) {
    let group = SecurityGroupId::new(format!("sg-{number}")).expect("a literal id");
    (format!("{PLANE}.{number}"), vec![group])
}

fn warm(ready: Ready) -> Warm {
    Warm {
        members_per_node: Some(ready.node),
        enis_per_zone: Some(ready.zone),
    }
}

impl ApiServer {
    pub(super) fn new(nodes: usize, vswitches: Vec<VSwitchId>, setup: &Setup) -> Self {
        let (edition, security_groups) = edition(1);
        Self {
            nodes: (0..nodes).map(|at| node(at, setup.members)).collect(),
            pods: BTreeMap::new(),
            records: BTreeMap::new(),
            networking: PodNetworking {
                name: PLANE.into(),
                edition,
                warm: warm(setup.ready),
                attachment: EniAttachment::Default,
                tenure: Tenure::Elastic,
                pods: Some(Selector::default()),
                namespaces: None,
                vswitches,
                preference: VSwitchPreference::Ordered,
                security_groups,
                resolved: None,
            },
            shares: !setup.ready.is_none(),
            editions: 1,
            versions: 0,
            uids: 0,
        }
    }

    /// Creates a pod with so many interfaces, unless there is one of its name.
    pub(super) fn create(
        &mut self,
        now: Timestamp,
        number: u16,
        (tenure, interfaces): (Tenure, usize),
        node: Option<usize>,
    ) -> bool {
        let key = name(number);
        if self.pods.contains_key(&key) {
            return false;
        }
        self.uids += 1;
        // Beside an interface that shares there may be one that does not.
        let shares = |interface: usize| self.shares && interface == 0 && !tenure.is_fixed();
        let called = |interface: usize| match shares(interface) {
            true => group(&key),
            false => format!("eth{interface}"),
        };
        let network = |interface: usize| NetworkRequest {
            interface: InterfaceName::new(called(interface)).expect("a literal name"),
            tenure,
            attachment: EniAttachment::Default,
            vswitches: self.networking.vswitches.clone(),
            preference: VSwitchPreference::Ordered,
            security_groups: self.networking.security_groups.clone(),
            resource_group: Some(group(&key)).filter(|_| !shares(interface)),
            default_route: interface == 0,
            routes: vec![],
        };
        let pod = Pod {
            key: key.clone(),
            uid: PodUid::new(format!("uid-{}", self.uids)).expect("a literal UID"),
            node: node.map(|node| self.nodes[node].name.clone()),
            finished: false,
            stable_name: tenure.is_fixed(),
            networks: (0..interfaces).map(network).collect(),
        };
        let live = LivePod {
            pod,
            uses: vec![],
            reported: false,
            since: now,
        };
        self.pods.insert(key, live);
        true
    }

    /// Changes how many ENIs are kept ready.
    pub(super) fn keep_ready(&mut self, ready: Ready) {
        self.networking.warm = warm(ready);
    }

    /// Changes what the PodNetworking's ENIs are to be.
    pub(super) fn renew(&mut self) {
        self.editions += 1;
        let one = &mut self.networking;
        (one.edition, one.security_groups) = edition(self.editions);
    }

    /// What the watch says of a pod now.
    pub(super) fn told(&self, key: &PodKey) -> Input {
        let told = self.pods.get(key).map(|live| {
            let reported = live.uses.iter().filter(|_| live.reported);
            Box::new(ClusterPod {
                pod: live.pod.clone(),
                labels: Labels::new(),
                exempt: false,
                complaint: None,
                addresses: reported.map(|(_, address)| *address).collect(),
            })
        });
        Input::Pod(key.clone(), told)
    }

    /// The pod of a bound record starts with what the record names: which, and since when it was there, if
    /// one just did.
    pub(super) fn start(&mut self, key: &PodKey) -> Option<(PodUid, Timestamp)> {
        let record = self.records.get(key)?;
        let live = self.pods.get_mut(key)?;
        let bound = record.phase == Phase::Bind && record.pod == live.pod.uid;
        if !bound || live.pod.finished || !live.uses.is_empty() {
            return None;
        }
        let made = record.allocations.iter();
        let made = made.filter_map(|one| Some((one.eni.as_ref()?.id.clone(), one.addresses.v4?)));
        live.uses = made.collect();
        Some((live.pod.uid.clone(), live.since))
    }

    /// Changes a record as anybody may.
    pub(super) fn edit(&mut self, key: &PodKey, edit: impl FnOnce(&mut PodEni)) {
        self.versions += 1;
        if let Some(record) = self.records.get_mut(key) {
            record.version = self.versions.to_string();
            edit(record);
        }
    }

    /// Carries out a write of the control plane, or only its first half.
    pub(super) fn store(
        &mut self,
        key: &PodKey,
        store: Store,
        half: bool,
    ) -> Result<Option<Box<PodEni>>, WriteFault> {
        self.versions += 1;
        let version = self.versions.to_string();
        match (store, self.records.get_mut(key)) {
            (Store::Create(record), None) => {
                self.uids += 1;
                let record = PodEni {
                    uid: format!("record-{}", self.uids),
                    version,
                    ..*record
                };
                self.records.insert(key.clone(), record);
            }
            (Store::Write(record), Some(found)) if found.version == record.version => {
                let mut next = PodEni {
                    version,
                    deleting: found.deleting,
                    held: found.held,
                    ..*record
                };
                let stops = half && next.phase != found.phase;
                if stops {
                    next = description_of(next, found);
                }
                *found = next;
                if stops {
                    return Err(WriteFault::Failed("only its first half was written".into()));
                }
            }
            (Store::Delete(uid), Some(found)) if found.uid == uid => {
                (found.deleting, found.version) = (true, version);
            }
            (Store::LetGo(uid), Some(found)) if found.uid == uid && found.deleting => {
                self.records.remove(key);
            }
            _ => return Err(WriteFault::Stale),
        }
        Ok(self.records.get(key).cloned().map(Box::new))
    }
}

/// `next` with the status of `found`.
fn description_of(next: PodEni, found: &PodEni) -> PodEni {
    let status = found.clone();
    PodEni {
        phase: status.phase,
        instance: status.instance,
        trunk: status.trunk,
        attached: status.attached,
        last_seen: status.last_seen,
        message: status.message,
        ..next
    }
}
