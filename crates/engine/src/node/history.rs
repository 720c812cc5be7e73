//! What happened lately, kept for people: it answers "why has this pod no IP" and decides nothing.
//!
//! Bounded, forgotten by a crash, never read by a decision.

use std::collections::{BTreeMap, VecDeque};

use model::{PodKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::message::{Notice, Reply, RequestNumber};

/// Happenings of the pool that are kept. An ENI takes about six from the call to its first pod, so
/// this is the story of the last ten.
const POOL_MAX: usize = 64;

/// Happenings of pods that are kept: a rollout of kubelet's usual 110 pods with four tries each.
const PODS_MAX: usize = 512;

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// What, in one sentence.
    pub what: String,
}

/// The last happenings.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    now: Timestamp,
    pool: VecDeque<Happening>,
    cloud_failure: Option<Happening>,
    pods: VecDeque<(PodKey, bool, Happening)>,
    /// Whose ADD a request is, until it is answered.
    asked: BTreeMap<RequestNumber, PodKey>,
}

impl History {
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The last call the cloud did not answer well.
    pub(super) fn cloud_failure(&self) -> Option<&Happening> {
        self.cloud_failure.as_ref()
    }

    /// Happenings of `pod`, oldest first; the flag says whether an ADD ended with it in vain.
    pub(super) fn of(&self, pod: &PodKey) -> impl Iterator<Item = (bool, &Happening)> {
        let own = self.pods.iter().filter(move |(of, ..)| of == pod);
        own.map(|(_, failed, happening)| (*failed, happening))
    }

    /// Happenings of the pool, oldest first.
    pub(super) fn pool(&self) -> impl Iterator<Item = &Happening> {
        self.pool.iter()
    }

    pub(super) fn asked(&mut self, request: RequestNumber, pod: &PodKey) {
        self.asked.insert(request, pod.clone());
    }

    pub(super) fn answered(&mut self, request: RequestNumber, reply: &Reply) {
        let Some(pod) = self.asked.remove(&request) else {
            return;
        };
        if let Reply::Failed(failure) = reply {
            let what = format!("an ADD was answered: {}", failure.message);
            self.pod(pod, true, what);
        }
    }

    pub(super) fn refused(&mut self, pod: PodKey, reason: &str) {
        self.pod(pod, true, format!("an ADD was refused: {reason}"));
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Allocated(pod, _, addresses) => {
                let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                self.pod(pod.clone(), false, format!("it got {}", list.join(", ")));
            }
            Notice::Waiting(pod, _, reason) => {
                let what = format!("an ADD waits: {reason}");
                self.pod(pod.clone(), false, what);
            }
            Notice::CloudFailed(text) => {
                self.cloud_failure = Some(self.happening(text.clone()));
                self.of_pool(text.clone());
            }
            Notice::Exhausted(state) => self.of_pool(state.reason.clone()),
            Notice::Recovered(kind) => {
                self.of_pool(format!("the pool can grow again ({})", kind.name()))
            }
            Notice::Collected(_, pod, why) => {
                self.pod(
                    pod.clone(),
                    false,
                    format!("its old sandbox was taken down: {why}"),
                );
            }
            Notice::KernelFailed(text) | Notice::Defect(text) => self.of_pool(text.clone()),
            Notice::MemberLost(pod, why) => self.pod(pod.clone(), false, why.clone()),
            Notice::TrunkMissing(lack) => self.of_pool(lack.to_string()),
            Notice::EniReady(eni) => self.of_pool(format!("{eni} is ready to serve")),
            Notice::AddressLost(address, key) => {
                self.of_pool(format!(
                    "the cloud does not list {address} of {key} any more"
                ));
            }
            Notice::CutOff(pod, link) => {
                let what = format!("somebody deleted its link {link}");
                self.pod(pod.clone(), false, what);
            }
            Notice::SysctlsWrong(what) => self.of_pool(what.join("; ")),
            // The answer of the ADD says the same.
            Notice::TimedOut(..)
            | Notice::Released(..)
            | Notice::Repaired(..)
            | Notice::NodeRepaired(_)
            | Notice::Contested(..)
            | Notice::LeftoversRemoved(_) => {}
        }
    }

    fn happening(&self, what: String) -> Happening {
        let at = seconds(self.now);
        Happening { at, what }
    }

    fn of_pool(&mut self, what: String) {
        if self.pool.len() >= POOL_MAX {
            self.pool.pop_front();
        }
        self.pool.push_back(self.happening(what));
    }

    fn pod(&mut self, pod: PodKey, failed: bool, what: String) {
        if self.pods.len() >= PODS_MAX {
            self.pods.pop_front();
        }
        let happening = self.happening(what);
        self.pods.push_back((pod, failed, happening));
    }
}

/// Whole seconds since the epoch, as people and `date -d @N` read them.
pub(super) fn seconds(at: Timestamp) -> u64 {
    at.as_nanos() / 1_000_000_000
}
