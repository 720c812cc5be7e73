//! Calls that create something: written down with their token before they are made, made again under
//! the same token while nobody knows what became of them.

use std::time::Duration;

use model::{Exhausted, FaultClass, Timestamp, VSwitchId};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::{
    Node, Op,
    budget::Api,
    exhaustion::{ExhaustionKind, QUOTA, REFUSED, Way},
    message::{CloudAnswer, CloudCall, CloudFault, Notice},
    seek::Sought,
};
use crate::{
    ledger::{Change, EniStage, Entry, EntryKey, Intent, IntentCall},
    retry::Backoff,
};

/// How long an ENI that takes no further address is left alone. It has as many as its type allows, so
/// only our own giving back makes room; asking every ten minutes costs six calls an hour.
const FULL_REST: Duration = Duration::from_secs(600);

/// What is known about an open call beyond the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IntentProgress {
    pub(super) busy: bool,
    pub(super) failures: u32,
    pub(super) not_before: Timestamp,
    /// Whether a try of it may have been carried out.
    pub(super) unknown: bool,
    /// It was refused, and what an earlier try may have made is looked for.
    pub(super) sought: Option<Sought>,
}

impl Node {
    pub(super) fn open(&mut self, now: Timestamp, call: IntentCall) {
        self.intent_last += 1;
        let id = self.intent_last;
        // The token is the intent's identity: instance, number, and the time and a throw of dice, because
        // a ledger that was lost starts to count again and must not repeat a token the cloud remembers,
        // and a clock that is set back shows the same time again.
        let (instance, thrown) = (&self.config.instance, self.dice.roll());
        let identity = format!("{instance}/{id}/{}/{thrown}", now.as_nanos());
        let digest = Sha1::digest(identity);
        let token: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        match model::ClientToken::new(token) {
            Ok(token) => {
                self.intents.insert(id, IntentProgress::default());
                self.record(Change::Put(Entry::Intent(Intent { id, token, call })));
            }
            Err(error) => self.notice(Notice::Defect(error.to_string())),
        }
    }

    pub(super) fn drive_intents(&mut self, now: Timestamp) {
        let intents: Vec<Intent> = self.ledger.intents().cloned().collect();
        let purpose = self.growth_purpose();
        for intent in intents {
            let progress = self.progress_of(intent.id);
            if progress.busy || progress.not_before > now {
                continue;
            }
            if progress.sought.is_some() {
                self.seek(now, &intent);
                continue;
            }
            let call = match intent.call {
                IntentCall::CreateEni(create) => CloudCall::CreateEni(intent.token, create),
                IntentCall::AssignAddresses { eni, count } => {
                    CloudCall::AssignAddresses(intent.token, eni, count)
                }
                IntentCall::AssignPrefixes { eni, count } => {
                    CloudCall::AssignPrefixes(intent.token, eni, count)
                }
            };
            if self.may_call(now, Api::of(&call), purpose) {
                self.progress_of(intent.id).busy = true;
                self.call(now, Op::Intent(intent.id), call);
            }
        }
    }

    /// What is known of an open call. One that a life before this wrote down may have been made by it.
    pub(super) fn progress_of(&mut self, id: u64) -> &mut IntentProgress {
        self.intents.entry(id).or_insert_with(|| IntentProgress {
            unknown: true,
            ..IntentProgress::default()
        })
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
            (Ok(CloudAnswer::Created(eni)), IntentCall::CreateEni(create)) => {
                self.put_new_eni(&eni, EniStage::Created);
                self.vswitch_gave(&create.vswitch, create.address_count);
                if create.prefix_count > 0 {
                    self.block_given(&create.vswitch);
                }
                self.goes_on(Way::NewEni, false);
                self.close(id);
            }
            (Ok(CloudAnswer::Assigned(addresses)), IntentCall::AssignAddresses { eni, .. }) => {
                self.progress(eni).changed = now;
                let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
                for address in addresses {
                    self.put_fresh(address, eni, false);
                }
                if let Some(vswitch) = self.ledger.eni(eni).map(|eni| eni.vswitch.clone()) {
                    self.vswitch_gave(&vswitch, count);
                }
                self.goes_on(Way::Addresses, false);
                self.close(id);
            }
            (Ok(CloudAnswer::AssignedPrefixes(list)), IntentCall::AssignPrefixes { eni, .. }) => {
                self.progress(eni).changed = now;
                for prefix in list {
                    self.put_prefix(prefix, eni);
                }
                if let Some(vswitch) = self.ledger.eni(eni).map(|eni| eni.vswitch.clone()) {
                    self.block_given(&vswitch);
                }
                self.goes_on(Way::Addresses, false);
                self.close(id);
            }
            (Ok(_), _) => {
                let class = FaultClass::Unknown;
                let text = "the answer is of another call".into();
                self.intent_failed(now, &intent, &CloudFault { class, text });
            }
            (Err(fault), _) => self.intent_failed(now, &intent, &fault),
        }
    }

    pub(super) fn close(&mut self, id: u64) {
        self.record(Change::Delete(EntryKey::Intent(id)));
        self.intents.remove(&id);
    }

    fn intent_failed(&mut self, now: Timestamp, intent: &Intent, fault: &CloudFault) {
        let what = match &intent.call {
            IntentCall::CreateEni(create) => {
                let kind = if create.trunk {
                    "a trunk ENI"
                } else {
                    "an ENI"
                };
                format!("creating {kind} in {}", create.vswitch)
            }
            IntentCall::AssignAddresses { eni, count } => {
                format!("assigning {count} addresses to {eni}")
            }
            IntentCall::AssignPrefixes { eni, count } => {
                format!("assigning {count} prefixes to {eni}")
            }
        };
        self.cloud_failed(&what, fault);
        match fault.class {
            // Not carried out, as far as this copy of the call goes. The API rests as a whole, and the call
            // with it.
            FaultClass::Throttled => {
                self.progress_of(intent.id).busy = false;
            }
            // Not carried out, or nobody knows: the same call under the same token is safe.
            FaultClass::Conflict | FaultClass::Unknown => {
                let failures = self.progress_of(intent.id).failures + 1;
                let not_before = now.after(self.wait(Backoff::CLOUD, failures));
                let progress = self.progress_of(intent.id);
                progress.unknown |= fault.class == FaultClass::Unknown;
                (progress.busy, progress.failures) = (false, failures);
                progress.not_before = not_before;
            }
            // Single addresses may still be had: the next call asks for those.
            FaultClass::Exhausted(Exhausted::VSwitch) | FaultClass::Invalid
                if intent.call.prefixes() > 0 =>
            {
                self.no_prefix(now, &intent.call, fault);
                self.end(now, intent);
            }
            FaultClass::Exhausted(what) => {
                self.ran_out(now, &intent.call, what, &fault.text);
                self.end(now, intent);
            }
            FaultClass::TokenMismatch => self.end(now, intent),
            // Ordinary pods go on without a trunk.
            FaultClass::Gone | FaultClass::Denied | FaultClass::Invalid
                if intent.call.is_trunk() =>
            {
                self.end(now, intent);
                self.vswitch_looks.doubt();
                self.trunk_refused(now, format!("{what}: {}", fault.text));
            }
            FaultClass::Gone | FaultClass::Denied | FaultClass::Invalid => {
                self.end(now, intent);
                self.refused(
                    now,
                    &intent.call,
                    fault.class,
                    format!("{what}: {}", fault.text),
                );
            }
        }
    }

    /// The cloud refused for good: until a person changes something, or a vSwitch or ENI that is not
    /// there any more is noticed.
    fn refused(&mut self, now: Timestamp, call: &IntentCall, class: FaultClass, reason: String) {
        let kind = match class {
            FaultClass::Denied => ExhaustionKind::Denied,
            _ => ExhaustionKind::Misconfigured,
        };
        match call {
            IntentCall::CreateEni(_) => {
                let reason = match class {
                    FaultClass::Denied => reason,
                    _ => format!("{reason} (eni_conf key vswitches, eni_conf key security_groups)"),
                };
                self.stop(now, Way::NewEni, kind, REFUSED, reason);
                self.vswitch_looks.doubt();
            }
            IntentCall::AssignAddresses { eni, .. } | IntentCall::AssignPrefixes { eni, .. } => {
                self.inventory.hurry(now);
                if class == FaultClass::Denied {
                    self.stop(now, Way::Addresses, kind, REFUSED, reason);
                } else {
                    self.progress(eni).full_until = now.after(REFUSED.first);
                }
            }
        }
    }

    /// The vSwitch a call asks.
    pub(super) fn asks(&self, call: &IntentCall) -> Option<VSwitchId> {
        match call {
            IntentCall::CreateEni(create) => Some(create.vswitch.clone()),
            IntentCall::AssignAddresses { eni, .. } | IntentCall::AssignPrefixes { eni, .. } => {
                self.ledger.eni(eni).map(|eni| eni.vswitch.clone())
            }
        }
    }

    fn no_prefix(&mut self, now: Timestamp, call: &IntentCall, fault: &CloudFault) {
        // What is refused as wrong is not right for fewer.
        let count = match fault.class {
            FaultClass::Invalid => 1,
            _ => call.prefixes(),
        };
        if let Some(vswitch) = self.asks(call) {
            self.block_refused(now, &vswitch, count, &fault.text);
        }
    }

    fn ran_out(&mut self, now: Timestamp, call: &IntentCall, what: Exhausted, text: &str) {
        let (way, count, eni) = match call {
            IntentCall::CreateEni(create) => (Way::NewEni, create.address_count, None),
            IntentCall::AssignAddresses { eni, count }
            | IntentCall::AssignPrefixes { eni, count } => (Way::Addresses, *count, Some(eni)),
        };
        let vswitch = self.asks(call);
        match (what, vswitch, eni) {
            (Exhausted::VSwitch, Some(vswitch), _) => {
                self.vswitch_refused(now, &vswitch, count, eni.is_none());
            }
            (Exhausted::AddressPerEni, _, Some(eni)) => {
                self.progress(eni).full_until = now.after(FULL_REST);
            }
            (Exhausted::SecurityGroup, ..) => {
                let groups: Vec<_> = self
                    .config
                    .security_groups
                    .iter()
                    .map(|g| g.as_str())
                    .collect();
                let reason = format!(
                    "a security group of {} is full (eni_conf key security_groups): {text}",
                    groups.join(", ")
                );
                self.stop(
                    now,
                    Way::Addresses,
                    ExhaustionKind::SecurityGroup,
                    QUOTA,
                    reason.clone(),
                );
                self.stop(
                    now,
                    Way::NewEni,
                    ExhaustionKind::SecurityGroup,
                    QUOTA,
                    reason,
                );
            }
            (Exhausted::Account, ..) => {
                let reason = format!("the account's ENI quota in the region is used up: {text}");
                self.stop(now, way, ExhaustionKind::AccountQuota, QUOTA, reason);
            }
            (
                Exhausted::EniPerInstance
                | Exhausted::AddressPerEni
                | Exhausted::VSwitch
                | Exhausted::RouteTable,
                ..,
            ) => {
                let reason = format!("the instance takes no further ENI: {text}");
                self.stop(now, way, ExhaustionKind::EniQuota, QUOTA, reason);
            }
        }
    }
}
