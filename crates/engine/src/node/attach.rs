//! ADD: from a request of the plugin to a standing attachment.
//!
//! An attachment exists in the ledger from the moment its address is chosen until its links, routes
//! and rules are gone. What is being done about it right now is kept beside the ledger and forgotten
//! by a crash: the runtime, which then never got an answer, sends DEL.

use model::{AttachmentKey, DualStack, Family, Timestamp, net::PodNet};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    message::{Action, AddRequest, Attached, FailureKind, Notice, Reply, RequestNumber},
};
use crate::{
    ledger::{AddressEntry, AddressState, Attachment, Change, Entry},
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
    /// Its links are being taken away.
    Removing {
        deleters: Vec<RequestNumber>,
        failures: u32,
    },
    /// Taking its links away failed; it is tried again.
    RemovalDue { at: Timestamp, failures: u32 },
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
        self.serve_waiting(now);
        if self.waiting.iter().any(|(waiting, _)| *waiting == number) {
            let count = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
            let reason = self.waiting_for(now);
            self.notice(Notice::Waiting(pod, count, reason));
        }
    }

    fn add_again(&mut self, number: RequestNumber, request: &AddRequest, standing: &Attachment) {
        if standing.pod != request.pod {
            let message = format!("{} belongs to pod {}", request.key, standing.pod);
            return self.fail(number, FailureKind::TryLater, message);
        }
        if self.link_index(&request.key).is_none() {
            return self.fail(number, FailureKind::TryLater, no_link(standing));
        }
        self.apply(number, standing, false);
    }

    pub(super) fn serve_waiting(&mut self, now: Timestamp) {
        while !self.waiting.is_empty() {
            let served = self.waiting.iter().enumerate().find_map(|(at, (_, add))| {
                let free = self.address_for(&add.pod, now)?;
                Some((at, free))
            });
            let Some((at, free)) = served else {
                return;
            };
            let Some((number, request)) = self.waiting.remove(at) else {
                return;
            };
            self.attach(now, number, request, free);
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

    fn attach(
        &mut self,
        now: Timestamp,
        number: RequestNumber,
        request: AddRequest,
        free: AddressEntry,
    ) {
        let host_link = match netplan::host_link_name(&request.pod, &request.key.interface) {
            Ok(name) => name,
            Err(error) => return self.fail(number, FailureKind::TryLater, error.to_string()),
        };
        let attachment = Attachment {
            key: request.key,
            pod: request.pod,
            uid: request.uid,
            netns: request.netns,
            addresses: DualStack::only(Family::of(free.address), free.address),
            eni: free.eni.clone(),
            host_link,
            mtu: request.mtu.unwrap_or(self.config.mtu),
            created: now,
            superseded: false,
            sticky: request.sticky,
        };
        let (to, reserved) = (attachment.key.clone(), None);
        let state = AddressState::Assigned { to };
        if !self.put_address(AddressEntry {
            state,
            reserved,
            ..free
        }) {
            return self.fail(number, FailureKind::TryLater, "the address is held already");
        }
        self.warm_left = self.warm_left.saturating_sub(1);
        self.record(Change::Put(Entry::Attachment(attachment.clone())));
        self.apply(number, &attachment, true);
    }

    fn apply(&mut self, request: RequestNumber, attachment: &Attachment, fresh: bool) {
        let net = Box::new(self.pod_net(attachment));
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

    pub(super) fn pod_net(&self, attachment: &Attachment) -> PodNet {
        netplan::pod_net(attachment, self.eni_link(&attachment.eni))
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

    pub(super) fn attached(&mut self, request: RequestNumber, key: &AttachmentKey, fresh: bool) {
        let Some(attachment) = self.ledger.attachment(key).cloned() else {
            return self.fail(
                request,
                FailureKind::TryLater,
                format!("{key} is not in the ledger"),
            );
        };
        if fresh {
            let (pod, addresses) = (attachment.pod.clone(), attachment.addresses);
            self.notice(Notice::Allocated(pod, key.clone(), addresses));
        }
        let link = self.eni_link(&attachment.eni);
        let eni = self.ledger.eni(&attachment.eni);
        let attached = Attached {
            net: netplan::pod_net(&attachment, link),
            sysctls: netplan::sysctls(&attachment, link, self.links.get(&self.config.primary_mac)),
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
            let reason = self.waiting_for(now);
            self.notice(Notice::TimedOut(add.pod.clone(), reason.clone()));
            let message = format!("pod {} got no address in time: {reason}", add.pod);
            self.fail(number, FailureKind::TryLater, message);
        }
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn attach_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let removals = self.work.values().filter_map(|work| match work {
            Work::RemovalDue { at, .. } => Some(*at),
            Work::Applying { .. } | Work::Checking { .. } | Work::Removing { .. } => None,
        });
        self.waiting
            .iter()
            .map(|(_, add)| add.deadline)
            .chain(removals)
    }
}

/// Why a standing attachment cannot be set up: its plan would lead to no table of an ENI.
pub(super) fn no_link(standing: &Attachment) -> String {
    format!("the link of {} is not on the node", standing.eni)
}
