//! An ENI that may have been made though the cloud says no: the answer to a create was lost, and the
//! same call, made again, is refused. What it made bears its token in its name and is looked for by
//! that, because no list of the node's ENIs shows what was never attached.

use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Node, Op,
    budget::Api,
    intent::IntentProgress,
    message::{CloudAnswer, CloudCall, CloudFault},
};
use crate::{
    ledger::{Intent, IntentCall},
    retry::Backoff,
};

/// Answers without the ENI, one after the other, that make it never made: one more than for what a list
/// lacks, because nothing in this answer shows that it may be read.
const UNSEEN_NEVER_MADE: u8 = 3;

/// How far apart they must be: what the cloud shows trails behind what it did.
const BETWEEN: Duration = Duration::from_secs(10);

/// A look for what a refused call may have made before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Sought {
    unseen: u8,
}

impl Node {
    /// The call was refused for good. It is over, unless an earlier try of it may have been carried out.
    pub(super) fn end(&mut self, now: Timestamp, intent: &Intent) {
        let makes_eni = matches!(intent.call, IntentCall::CreateEni(_));
        let progress = self.progress_of(intent.id);
        if !makes_eni || !progress.unknown {
            return self.close(intent.id);
        }
        *progress = IntentProgress {
            sought: Some(Sought { unseen: 0 }),
            not_before: now,
            ..IntentProgress::default()
        };
    }

    pub(super) fn seek(&mut self, now: Timestamp, intent: &Intent) {
        let purpose = self.growth_purpose();
        if self.may_call(now, Api::DescribeNetworkInterfaces, purpose) {
            self.progress_of(intent.id).busy = true;
            let call = CloudCall::FindEni(intent.token.clone());
            self.call(now, Op::Seek(intent.id), call);
        }
    }

    pub(super) fn seek_done(
        &mut self,
        now: Timestamp,
        id: u64,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        // A list that may be empty because nobody may read it proves nothing.
        let believed = self.inventory.failures == 0;
        let progress = self.progress_of(id);
        progress.busy = false;
        let Some(sought) = &mut progress.sought else {
            return;
        };
        match result {
            Ok(CloudAnswer::Enis(enis)) if !enis.is_empty() => {
                for eni in &enis {
                    self.adopt(eni);
                }
                self.close(id);
            }
            Ok(CloudAnswer::Enis(_)) if believed => {
                sought.unseen += 1;
                progress.failures = 0;
                progress.not_before = now.after(BETWEEN);
                if sought.unseen >= UNSEEN_NEVER_MADE {
                    self.close(id);
                }
            }
            other => {
                progress.failures += 1;
                let failures = progress.failures;
                let not_before = now.after(self.wait(Backoff::CLOUD, failures));
                self.progress_of(id).not_before = not_before;
                if let Err(fault) = other {
                    self.cloud_failed("looking for an ENI whose making nobody confirmed", &fault);
                }
            }
        }
    }
}
