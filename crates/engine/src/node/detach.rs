//! DEL: from a standing attachment back to an address at rest.
//!
//! Nothing is forgotten before the kernel has let go of it, and an ADD that started before its DEL
//! stays dead, in whatever order they arrive.

use std::time::Duration;

use model::{AttachmentKey, Timestamp};

use super::{
    Node,
    attach::Work,
    message::{Action, FailureKind, Notice, Reply, RequestNumber},
};
use crate::{
    ledger::{Change, EntryKey},
    retry::Backoff,
};

/// How long a DEL is remembered against an ADD that started before it. Container runtimes give up on
/// an ADD after 4 minutes at the latest (kubelet's sandbox timeout), so nothing older can be in flight.
const SETTLED_KEEP: Duration = Duration::from_secs(600);

/// DELs remembered: seven a second for all of that time, far above what one node churns.
const SETTLED_MAX: usize = 4096;

impl Node {
    pub(super) fn del(
        &mut self,
        now: Timestamp,
        request: Option<RequestNumber>,
        key: AttachmentKey,
        started: Timestamp,
    ) {
        self.remember_settled(now, &key, started);
        if let Some(at) = self
            .waiting
            .iter()
            .position(|(_, waiting)| waiting.key == key)
            && let Some((number, _)) = self.waiting.remove(at)
        {
            let message = format!("sandbox {key} was deleted while its ADD was waiting");
            self.fail(number, FailureKind::Deleted, message);
        }
        match self.work.get_mut(&key) {
            Some(
                Work::Applying {
                    deleters, deleted, ..
                }
                | Work::Checking {
                    deleters, deleted, ..
                }
                | Work::Mending {
                    deleters, deleted, ..
                },
            ) => {
                deleters.extend(request);
                *deleted = true;
            }
            Some(Work::Removing { deleters, .. }) => deleters.extend(request),
            Some(Work::RemovalDue { failures, .. }) => {
                let failures = *failures;
                self.remove(key, request.into_iter().collect(), failures);
            }
            None if self.ledger.attachment(&key).is_some() => {
                self.remove(key, request.into_iter().collect(), 0);
            }
            None => {
                if let Some(request) = request {
                    self.reply(request, Reply::Done);
                }
            }
        }
    }

    fn remember_settled(&mut self, now: Timestamp, key: &AttachmentKey, started: Timestamp) {
        self.settled
            .retain(|_, deleted| now.since(*deleted) < SETTLED_KEEP);
        if self.settled.len() >= SETTLED_MAX {
            let oldest = self.settled.iter().min_by_key(|(_, deleted)| **deleted);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.settled.remove(&oldest);
            }
        }
        let latest = self.settled.entry(key.clone()).or_insert(started);
        *latest = started.max(*latest);
    }

    pub(super) fn remove(
        &mut self,
        key: AttachmentKey,
        deleters: Vec<RequestNumber>,
        failures: u32,
    ) {
        let Some(attachment) = self.ledger.attachment(&key) else {
            return;
        };
        let net = Box::new(self.removal_plan(attachment));
        self.work
            .insert(key.clone(), Work::Removing { deleters, failures });
        self.out.emit(Action::RemovePod(key, net));
    }

    pub(super) fn pod_removed(
        &mut self,
        now: Timestamp,
        key: AttachmentKey,
        result: Result<(), String>,
    ) {
        let Some(Work::Removing { deleters, failures }) = self.work.remove(&key) else {
            return;
        };
        if let Err(error) = result {
            let failures = failures + 1;
            let at = now.after(self.wait(Backoff::KERNEL, failures));
            self.work
                .insert(key.clone(), Work::RemovalDue { at, failures });
            let message = format!("taking {key} down: {error}");
            for request in deleters {
                self.fail(request, FailureKind::TryLater, message.clone());
            }
            return self.notice(Notice::KernelFailed(message));
        }
        if let Some(attachment) = self.ledger.attachment(&key).cloned() {
            self.forget_devices(&attachment);
            let until = now.after(self.config.cooldown);
            let addresses: Vec<_> = attachment.every_address().collect();
            for address in &addresses {
                self.give_back(now, *address, &attachment, until);
            }
            self.record(Change::Delete(EntryKey::Attachment(key.clone())));
            self.notice(Notice::Released(key.clone(), addresses));
            self.members.forget(&key);
        }
        for request in deleters {
            self.reply(request, Reply::Done);
        }
        self.swept(&key);
    }

    pub(super) fn retry_removals(&mut self, now: Timestamp) {
        let due = self.work.iter().filter_map(|(key, work)| match work {
            Work::RemovalDue { at, failures } if *at <= now => Some((key.clone(), *failures)),
            _ => None,
        });
        for (key, failures) in due.collect::<Vec<_>>() {
            self.remove(key, Vec::new(), failures);
        }
    }
}
