//! ADD: from a request of the plugin to a standing attachment.
//!
//! An attachment exists in the ledger from the moment its address is chosen until its links, routes
//! and rules are gone. What is being done about it right now is kept beside the ledger and forgotten
//! by a crash: the runtime, which then never got an answer, sends DEL.

use model::{AttachmentKey, DualStack, Family, KeyError, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    allot::Granted,
    member::Bound,
    message::{Action, AddRequest, Attached, FailureKind, Notice, Reply, RequestNumber},
};
use crate::{
    ledger::{AddressEntry, AddressState, Attachment, Change, Entry, Further, Joint},
    netplan,
};

/// ADDs that may wait at once. A node runs at most 256 pods in practice (kubelet's default is 110),
/// and each waits once; more than that is a runtime gone mad.
const WAITING_MAX: usize = 512;

/// What is being done about an attachment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Its links are being set up.
    Applying {
        request: RequestNumber,
        /// Whether this ADD made it, so that its failure undoes it.
        fresh: bool,
        /// The table its packets are sent to, by the index of the ENI's link.
        by: Option<u32>,
        deleters: Vec<RequestNumber>,
        deleted: bool,
    },
    /// It is being compared with its plan.
    Checking {
        request: RequestNumber,
        deleters: Vec<RequestNumber>,
        deleted: bool,
    },
    /// What it lacks on the node is being put back.
    Mending {
        checks: Vec<RequestNumber>,
        deleters: Vec<RequestNumber>,
        deleted: bool,
    },
    /// Its links are being taken away.
    Removing {
        deleters: Vec<RequestNumber>,
        failures: u32,
    },
    /// Taking its links away failed; it is tried again.
    RemovalDue { at: Timestamp, failures: u32 },
}

/// What an ADD gets.
enum Grant {
    /// An address of the pool.
    Pool(AddressEntry),
    /// ENIs of its own, and their addresses.
    Member(Bound),
}

impl Node {
    pub(super) fn add(&mut self, now: Timestamp, number: RequestNumber, request: AddRequest) {
        let key = &request.key;
        if self
            .settled
            .get(key)
            .is_some_and(|deleted| *deleted >= request.started)
        {
            let message = format!("sandbox {key} was deleted while its ADD was under way");
            return self.fail(number, FailureKind::Deleted, message);
        }
        let busy = self.work.contains_key(key)
            || self.waiting.iter().any(|(_, waiting)| waiting.key == *key);
        if busy {
            let message = format!("another operation on {key} is under way");
            return self.fail(number, FailureKind::TryLater, message);
        }
        if let Some(standing) = self.ledger.attachment(key).cloned() {
            return self.add_again(number, &request, &standing);
        }
        if self.waiting.len() >= WAITING_MAX {
            let message = format!("{WAITING_MAX} pods wait for an address already");
            return self.fail(number, FailureKind::TryLater, message);
        }
        let pod = request.pod.clone();
        self.supersede(&request);
        self.waiting.push_back((number, request));
        self.clear_the_way(now, &pod);
        self.serve_waiting(now);
        let left = self.waiting.iter().find(|(waiting, _)| *waiting == number);
        if let Some((_, request)) = left {
            let count = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
            let reason = self.waits_for(request, now);
            self.notice(Notice::Waiting(pod, count, reason));
        }
    }

    fn add_again(&mut self, number: RequestNumber, request: &AddRequest, standing: &Attachment) {
        if standing.pod != request.pod {
            let message = format!("{} belongs to pod {}", request.key, standing.pod);
            return self.fail(number, FailureKind::TryLater, message);
        }
        if let Some(lack) = self.no_link(standing) {
            return self.fail(number, FailureKind::TryLater, lack);
        }
        self.apply(number, standing, false);
    }

    pub(super) fn serve_waiting(&mut self, now: Timestamp) {
        self.draw(now);
        while !self.waiting.is_empty() {
            let served = self.waiting.iter().enumerate().find_map(|(at, (_, add))| {
                let grant = match add.trunk {
                    true => Grant::Member(self.member_for(add, now).ok()?),
                    false => Grant::Pool(self.address_for(&add.pod, now)?),
                };
                Some((at, grant))
            });
            let Some((at, grant)) = served else {
                return;
            };
            let Some((number, request)) = self.waiting.remove(at) else {
                return;
            };
            self.attach(now, number, request, grant);
        }
    }

    /// Since when an address could be handed out, if it can.
    pub(super) fn free_since(&self, entry: &AddressEntry, now: Timestamp) -> Option<Timestamp> {
        let since = match entry.state {
            AddressState::Idle { since } => since,
            AddressState::Resting { until } if until <= now => until,
            AddressState::Fresh
            | AddressState::Resting { .. }
            | AddressState::Assigned { .. }
            | AddressState::Releasing => return None,
        };
        self.serviceable(entry).then_some(since)
    }

    /// Whether cloud and node let a pod use the address.
    pub(super) fn serviceable(&self, entry: &AddressEntry) -> bool {
        entry.unseen == 0
            && !self.is_occupied(entry.address)
            && self.eni_usable(&entry.eni)
            && !self.excluded(&entry.eni)
    }

    fn attach(&mut self, now: Timestamp, number: RequestNumber, request: AddRequest, grant: Grant) {
        let attachment = match self.attachment(now, request, &grant) {
            Ok(attachment) => attachment,
            Err(error) => return self.fail(number, FailureKind::TryLater, error.to_string()),
        };
        let taken = match grant {
            Grant::Pool(free) => self.take(free, &attachment),
            Grant::Member(_) => true,
        };
        if !taken || !self.record(Change::Put(Entry::Attachment(attachment.clone()))) {
            return self.fail(number, FailureKind::TryLater, "the address is held already");
        }
        self.apply(number, &attachment, true);
    }

    /// The row of what an ADD gets.
    fn attachment(
        &self,
        now: Timestamp,
        request: AddRequest,
        grant: &Grant,
    ) -> Result<Attachment, KeyError> {
        let host_link = netplan::host_link_name(&request.pod, &request.key.interface)?;
        let mut further = Vec::new();
        let mut joint = Joint::Veth;
        let (addresses, eni, member) = match grant {
            Grant::Pool(free) => {
                joint = self.joint(&free.eni);
                let address = DualStack::only(Family::of(free.address), free.address);
                (address, free.eni.clone(), None)
            }
            Grant::Member(bound) => {
                for one in bound.further.clone() {
                    further.push(Further {
                        host_link: netplan::host_link_name(&request.pod, &one.interface)?,
                        interface: one.interface,
                        addresses: one.addresses,
                        member: one.member,
                    });
                }
                let Granted {
                    addresses, member, ..
                } = bound.first.clone();
                (addresses, bound.by.clone(), Some(Box::new(member)))
            }
        };
        Ok(Attachment {
            key: request.key,
            pod: request.pod,
            uid: request.uid,
            netns: request.netns,
            addresses,
            eni,
            host_link,
            joint,
            mtu: request.mtu.unwrap_or(self.config.mtu),
            created: now,
            superseded: false,
            sticky: request.sticky,
            member,
            further,
        })
    }

    /// Takes a free address out of the pool.
    fn take(&mut self, free: AddressEntry, attachment: &Attachment) -> bool {
        let (to, reserved) = (attachment.key.clone(), None);
        let state = AddressState::Assigned { to };
        self.warm_left = self.warm_left.saturating_sub(1);
        self.put_address(AddressEntry {
            state,
            reserved,
            ..free
        })
    }

    fn apply(&mut self, request: RequestNumber, attachment: &Attachment, fresh: bool) {
        let net = Box::new(self.pod_plan(attachment));
        let key = attachment.key.clone();
        let work = Work::Applying {
            request,
            fresh,
            by: self.link_index(&key),
            deleters: Vec::new(),
            deleted: false,
        };
        self.work.insert(key.clone(), work);
        self.out.emit(Action::ApplyPod(request, key, net));
    }

    pub(super) fn pod_applied(
        &mut self,
        now: Timestamp,
        key: AttachmentKey,
        result: Result<(), String>,
    ) {
        let Some(Work::Applying {
            request,
            fresh,
            by,
            deleters,
            deleted,
        }) = self.work.remove(&key)
        else {
            return;
        };
        // The ENI's link came back under another index meanwhile: what was set up leads nowhere.
        let moved = || self.link_index(&key) != by;
        let result = match result {
            Ok(()) if moved() => Err("the link of its ENI has changed".into()),
            result => result,
        };
        if let Some(attachment) = self.ledger.attachment(&key).cloned() {
            self.forget_devices(&attachment);
        }
        match result {
            _ if deleted => {
                let message = format!("sandbox {key} was deleted while its ADD was under way");
                self.fail(request, FailureKind::Deleted, message);
                self.remove(key, deleters, 0);
            }
            Ok(()) => self.attached(request, &key, fresh),
            Err(error) => {
                let message = format!("setting up {key}: {error}");
                self.notice(Notice::KernelFailed(message.clone()));
                self.fail(request, FailureKind::TryLater, message);
                if fresh {
                    self.remove(key, deleters, 0);
                }
            }
        }
        self.serve_waiting(now);
    }

    /// The index of the link that an attachment's packets leave by.
    pub(super) fn link_index(&self, key: &AttachmentKey) -> Option<u32> {
        let attachment = self.ledger.attachment(key)?;
        self.eni_link(&attachment.eni).map(|link| link.index)
    }

    /// Why a standing attachment cannot be set up, if so: its plan would lead to no table of an ENI. A pod
    /// with a whole ENI needs none.
    pub(super) fn no_link(&self, standing: &Attachment) -> Option<String> {
        let missing = !standing.is_whole() && self.eni_link(&standing.eni).is_none();
        missing.then(|| format!("the link of {} is not on the node", standing.eni))
    }

    pub(super) fn attached(&mut self, request: RequestNumber, key: &AttachmentKey, fresh: bool) {
        let Some(attachment) = self.ledger.attachment(key).cloned() else {
            return self.fail(
                request,
                FailureKind::TryLater,
                format!("{key} is not in the ledger"),
            );
        };
        if fresh {
            let (pod, addresses) = (attachment.pod.clone(), attachment.every_address().collect());
            self.notice(Notice::Allocated(pod, key.clone(), addresses));
        }
        let eni = self.ledger.eni(&attachment.eni);
        let attached = Attached {
            net: self.pod_plan(&attachment),
            sysctls: self.sysctls(&attachment),
            subnet: eni.map(|eni| eni.subnet).unwrap_or_default(),
            gateway: eni.map(|eni| eni.gateway).unwrap_or_default(),
            attachment,
        };
        self.reply(request, Reply::Attached(Box::new(attached)));
    }

    /// Ends the wait of ADDs whose deadline passed, with what they waited for.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(at) = self.waiting.iter().position(|(_, add)| add.deadline <= now) {
            let Some((number, add)) = self.waiting.remove(at) else {
                return;
            };
            let reason = self.waits_for(&add, now);
            self.notice(Notice::TimedOut(add.pod.clone(), reason.clone()));
            let message = format!("pod {} got no address in time: {reason}", add.pod);
            self.fail(number, FailureKind::TryLater, message);
        }
    }

    /// What a waiting ADD waits for, in one sentence.
    pub(super) fn waits_for(&self, add: &AddRequest, now: Timestamp) -> String {
        match add.trunk {
            true => self.member_for(add, now).err().unwrap_or_default(),
            false => self.waiting_for(now),
        }
    }

    /// ADDs that wait for an address of the pool.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.iter().filter(|(_, add)| !add.trunk).count()
    }

    pub(super) fn attach_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let removals = self.work.values().filter_map(|work| match work {
            Work::RemovalDue { at, .. } => Some(*at),
            Work::Applying { .. }
            | Work::Checking { .. }
            | Work::Mending { .. }
            | Work::Removing { .. } => None,
        });
        self.waiting
            .iter()
            .map(|(_, add)| add.deadline)
            .chain(removals)
    }
}
