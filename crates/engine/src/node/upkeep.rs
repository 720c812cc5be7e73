//! CHECK and GC: what a runtime asks about attachments that stand, and which of them may go.

use std::collections::BTreeSet;

use model::{AttachmentKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    attach::Work,
    message::{Action, FailureKind, Notice, Reply, RequestNumber},
};

/// A GC that has not been answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sweep {
    request: RequestNumber,
    left: BTreeSet<AttachmentKey>,
}

impl Node {
    pub(super) fn check(&mut self, request: RequestNumber, key: AttachmentKey) {
        let Some(attachment) = self.ledger.attachment(&key) else {
            let message = format!("{key} has no attachment on this node");
            return self.fail(request, FailureKind::Unknown, message);
        };
        match self.work.get_mut(&key) {
            None => {}
            // Which takes milliseconds, and nobody asked for it.
            Some(Work::Mending { checks, .. }) => return checks.push(request),
            Some(_) => {
                let message = format!("another operation on {key} is under way");
                return self.fail(request, FailureKind::TryLater, message);
            }
        }
        if let Some(message) = self.no_link(attachment) {
            return self.fail(request, FailureKind::TryLater, message);
        }
        let net = Box::new(self.pod_plan(attachment));
        let work = Work::Checking {
            request,
            deleters: Vec::new(),
            deleted: false,
        };
        self.work.insert(key.clone(), work);
        self.out.emit(Action::CheckPod(request, key, net));
    }

    pub(super) fn pod_checked(
        &mut self,
        now: Timestamp,
        key: AttachmentKey,
        result: Result<Vec<String>, String>,
    ) {
        let Some(Work::Checking {
            request,
            deleters,
            deleted,
        }) = self.work.remove(&key)
        else {
            return;
        };
        match result {
            Ok(lacked) => {
                if !lacked.is_empty() {
                    self.notice(Notice::Repaired(key.clone(), lacked));
                }
                self.attached(request, &key, false);
            }
            Err(error) => {
                self.fail(
                    request,
                    FailureKind::TryLater,
                    format!("repairing {key}: {error}"),
                );
            }
        }
        if deleted {
            self.remove(key, deleters, 0);
        }
        self.serve_waiting(now);
    }

    pub(super) fn gc(
        &mut self,
        now: Timestamp,
        request: RequestNumber,
        started: Timestamp,
        valid: &BTreeSet<AttachmentKey>,
    ) {
        // Whether an attachment is older than the list cannot be told across a step back of the clock.
        let comparable = started <= now && started > self.stepped_back_from;
        let judged = self
            .ledger
            .attachments()
            .filter(|attachment| comparable && attachment.created < started);
        let stale = judged
            .map(|attachment| &attachment.key)
            .filter(|key| !valid.contains(*key));
        let left: BTreeSet<_> = stale.cloned().collect();
        if left.is_empty() {
            return self.reply(request, Reply::Done);
        }
        for key in &left {
            self.del(now, None, key.clone(), started);
        }
        self.sweeps.push(Sweep { request, left });
    }

    pub(super) fn swept(&mut self, key: &AttachmentKey) {
        let mut done = Vec::new();
        self.sweeps.retain_mut(|sweep| {
            sweep.left.remove(key);
            if sweep.left.is_empty() {
                done.push(sweep.request);
            }
            !sweep.left.is_empty()
        });
        for request in done {
            self.reply(request, Reply::Done);
        }
    }
}
