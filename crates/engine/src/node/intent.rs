//! Calls that create something: written down with their token before they are made, made again under
//! the same token while nobody knows what became of them.

use std::time::Duration;

use model::{Exhausted, FaultClass, Timestamp};
use sha1::{Digest, Sha1};

use super::{
    Node, Op,
    message::{CloudAnswer, CloudCall, CloudFault, Notice},
    supply::Growth,
    vswitch::REFUSED_REST,
};
use crate::{
    ledger::{Change, EniStage, Entry, EntryKey, Intent, IntentCall},
    retry::Backoff,
};

/// How long a vSwitch or ENI that is full is left alone. Space returns when somebody frees some,
/// which takes minutes; asking every ten costs six calls an hour.
const FULL_REST: Duration = Duration::from_secs(600);

/// How long the pool does not grow after the account or a security group was found full.
const QUOTA_REST: Duration = Duration::from_secs(60);

/// What is known about an open call beyond the ledger.
#[derive(Debug, Default)]
pub(super) struct IntentProgress {
    pub(super) busy: bool,
    pub(super) failures: u32,
    pub(super) not_before: Timestamp,
}

impl Node {
    pub(super) fn open(&mut self, now: Timestamp, call: IntentCall) {
        self.intent_last += 1;
        let id = self.intent_last;
        // The token is the intent's identity: instance, number, and the time, because a ledger that
        // was lost starts to count again and must not repeat a token the cloud remembers.
        let identity = format!("{}/{id}/{}", self.config.instance, now.as_nanos());
        let digest = Sha1::digest(identity);
        let token: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        match model::ClientToken::new(token) {
            Ok(token) => {
                self.record(Change::Put(Entry::Intent(Intent { id, token, call })));
            }
            Err(error) => self.notice(Notice::Defect(error.to_string())),
        }
    }

    pub(super) fn drive_intents(&mut self, now: Timestamp) {
        let intents: Vec<Intent> = self.ledger.intents().cloned().collect();
        for intent in intents {
            let progress = self.intents.entry(intent.id).or_default();
            if progress.busy || progress.not_before > now {
                continue;
            }
            progress.busy = true;
            let call = match intent.call {
                IntentCall::CreateEni(create) => CloudCall::CreateEni(intent.token, create),
                IntentCall::AssignAddresses { eni, count } => {
                    CloudCall::AssignAddresses(intent.token, eni, count)
                }
            };
            self.call(Op::Intent(intent.id), call);
        }
    }

    pub(super) fn intent_done(
        &mut self,
        now: Timestamp,
        id: u64,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        let Some(intent) = self.ledger.intent(id).cloned() else {
            return;
        };
        match (result, &intent.call) {
            (Ok(CloudAnswer::Created(eni)), IntentCall::CreateEni(_)) => {
                self.put_new_eni(&eni, EniStage::Created);
                self.succeeded(id);
            }
            (Ok(CloudAnswer::Assigned(addresses)), IntentCall::AssignAddresses { eni, .. }) => {
                self.progress(eni).changed = now;
                for address in addresses {
                    self.put_fresh(address, eni, false);
                }
                self.succeeded(id);
            }
            (Ok(_), _) => {
                let class = FaultClass::Unknown;
                let text = "the answer is of another call".into();
                self.intent_failed(now, &intent, &CloudFault { class, text });
            }
            (Err(fault), _) => self.intent_failed(now, &intent, &fault),
        }
    }

    /// An answer that brought something: whatever stood in the way is gone.
    fn succeeded(&mut self, id: u64) {
        self.growth = Growth::default();
        self.close(id);
    }

    fn close(&mut self, id: u64) {
        self.record(Change::Delete(EntryKey::Intent(id)));
        self.intents.remove(&id);
    }

    fn intent_failed(&mut self, now: Timestamp, intent: &Intent, fault: &CloudFault) {
        let what = match &intent.call {
            IntentCall::CreateEni(create) => format!("creating an ENI in {}", create.vswitch),
            IntentCall::AssignAddresses { eni, count } => {
                format!("assigning {count} addresses to {eni}")
            }
        };
        self.cloud_failed(&what, fault);
        match fault.class {
            // Not carried out, or nobody knows: the same call under the same token is safe.
            FaultClass::Throttled | FaultClass::Conflict | FaultClass::Unknown => {
                let failures = self.intents.entry(intent.id).or_default().failures + 1;
                let not_before = now.after(self.wait(Backoff::CLOUD, failures));
                self.intents.insert(
                    intent.id,
                    IntentProgress {
                        busy: false,
                        failures,
                        not_before,
                    },
                );
            }
            FaultClass::Exhausted(what) => {
                self.exhausted(now, &intent.call, what, &fault.text);
                self.close(intent.id);
            }
            FaultClass::TokenMismatch => self.close(intent.id),
            FaultClass::Gone | FaultClass::Denied | FaultClass::Invalid => {
                if let IntentCall::AssignAddresses { .. } = intent.call {
                    self.inventory.want();
                }
                self.close(intent.id);
                self.stop_growth(now, REFUSED_REST, format!("{what}: {}", fault.text));
            }
        }
    }

    fn exhausted(&mut self, now: Timestamp, call: &IntentCall, what: Exhausted, text: &str) {
        let until = now.after(FULL_REST);
        if let IntentCall::AssignAddresses { eni, .. } = call {
            self.progress(eni).full_until = until;
        }
        let vswitch = match call {
            IntentCall::CreateEni(create) => Some(create.vswitch.clone()),
            IntentCall::AssignAddresses { eni, .. } => {
                self.ledger.eni(eni).map(|eni| eni.vswitch.clone())
            }
        };
        match (what, vswitch) {
            (Exhausted::VSwitch, Some(vswitch)) => {
                self.vswitches.entry(vswitch).or_default().full_until = until;
                self.notice(Notice::Exhausted(text.into(), until));
            }
            (Exhausted::AddressPerEni, _) => self.notice(Notice::Exhausted(text.into(), until)),
            _ => self.stop_growth(now, QUOTA_REST, text.into()),
        }
    }
}
