//! What a process has learned about one record's ENIs beyond the record: calls under way, answers, waits.
//!
//! Kept in memory only. Without it the planner looks before it acts.

use std::{collections::BTreeMap, net::IpAddr};

use model::{
    ClientToken, DualStack, EniId, EniKind, EniStatus, FaultClass, InstanceId, InterfaceName,
    SecurityGroupId, Timestamp, VSwitchId, podeni::OwnedEni,
};

use crate::retry::{Backoff, Dice};

/// A request for an ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEni {
    /// The pod's interface it is for.
    pub interface: InterfaceName,
    /// Which attempt of the allocation it belongs to.
    pub attempt: u32,
    /// Makes a repetition the same call.
    pub token: ClientToken,
    /// Where its address comes from.
    pub vswitch: VSwitchId,
    /// The addresses it must have, when some were promised before.
    pub addresses: DualStack<IpAddr>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// The resource group it is billed under, if any.
    pub resource_group: Option<String>,
    /// The edition it is tagged with, if it may serve more than this pod.
    pub edition: Option<String>,
    /// Whether the cloud may delete it with the instance: never what a record promises beyond the pod.
    pub delete_on_release: bool,
}

/// A call of the cloud's API, or a wish to have an ENI looked at together with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Make an ENI.
    Create(Box<CreateEni>),
    /// Attach an ENI, to the trunk if one is given.
    Attach {
        /// The ENI.
        eni: EniId,
        /// The instance.
        instance: InstanceId,
        /// The trunk of that instance.
        trunk: Option<EniId>,
    },
    /// Detach an ENI.
    Detach {
        /// The ENI.
        eni: EniId,
        /// The instance it is on.
        instance: InstanceId,
        /// The trunk it is a member of.
        trunk: Option<EniId>,
    },
    /// Delete an ENI that is attached to nothing.
    Delete(EniId),
    /// Look at an ENI.
    Look(EniId),
}

/// An ENI as the cloud last described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEni {
    /// Where it is in its life.
    pub status: EniStatus,
    /// What kind of interface it is.
    pub kind: EniKind,
    /// The instance it is on.
    pub instance: Option<InstanceId>,
    /// The trunk it is a member of.
    pub trunk: Option<EniId>,
    /// Its VLAN on that trunk.
    pub vlan: Option<u16>,
}

/// Why a call did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What to make of it.
    pub class: FaultClass,
    /// The cloud's code, message and RequestId, for people.
    pub text: String,
}

/// An ENI the cloud made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEni {
    /// Id and Ethernet address.
    pub eni: OwnedEni,
    /// Its addresses, one a family.
    pub addresses: DualStack<IpAddr>,
}

/// How long to wait between two tries for an ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// After a create that was refused.
    pub create: Backoff,
    /// After an attach that was refused.
    pub attach: Backoff,
    /// After a detach or a delete that was refused.
    pub release: Backoff,
    /// Between two looks at an ENI on its way. Shorter than [`Backoff::APPEAR`] it must not be: what so many
    /// looks in a row do not show counts as attached to nothing.
    pub look: Backoff,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            create: Backoff::CLOUD,
            attach: Backoff::CLOUD,
            release: Backoff::CLOUD,
            look: Backoff::APPEAR,
        }
    }
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The ENI that was made, with its addresses.
    Created(Box<NewEni>),
    /// Taken up by the cloud; it finishes by itself.
    Accepted,
    /// The ENI as it is.
    Seen(SeenEni),
    /// Missing from an answer that held an ENI known to exist.
    Missing,
}

/// Refusals in a row, each saying that the ENI does not exist, before that is believed: the cloud may not
/// know yet what it made a moment ago, and the waits between three tries add up to more than a second.
const GONE_CONFIRMED: u32 = 3;

/// Looks in a row that find an ENI missing before it counts as attached to nothing: some 20 s at
/// [`Backoff::APPEAR`], longer than any lag seen. The next attach, or the delete, tells for certain.
pub(super) const MISSING_OFF: u32 = 12;

/// What is believed about an ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Belief {
    /// Made by this process just now, attached to nothing.
    Fresh,
    /// Described so.
    Seen(SeenEni),
    /// Something was asked of it that takes a while; looking tells when it is done.
    Moving,
    /// Missing from what was described. That may be a lag, so nothing is concluded from it: the next call
    /// that would change it tells.
    /// With the number of looks in a row.
    Missing(u32),
    /// It does not exist any more.
    Gone,
}

/// What can be said of an ENI now.
pub(super) enum Standing<'a> {
    /// A call about it is under way.
    Busy,
    /// Too early to ask again.
    Resting(Timestamp),
    /// This; nothing when it must be looked at.
    Believed(Option<&'a Belief>),
}

/// What became of a request for an ENI.
pub(super) enum Requested<'a> {
    /// It was never made.
    Never,
    /// An earlier process may have made it, or its answer was lost.
    Unknown,
    /// It is under way.
    Busy,
    /// It made this ENI.
    Made(&'a NewEni),
    /// The cloud did not do it.
    Refused {
        /// Why.
        fault: &'a Fault,
        /// When the next try is due.
        again: Timestamp,
        /// Whether that is now.
        due: bool,
        /// Whether no ENI can exist under the token.
        empty: bool,
    },
}

/// Whether a refusal says that no ENI exists under the token, whatever became of earlier calls with it: the
/// cloud looked at the request itself. Throttling and permission are looked at before that.
pub(super) fn settles(class: FaultClass) -> bool {
    match class {
        FaultClass::Exhausted(_)
        | FaultClass::Gone
        | FaultClass::Invalid
        | FaultClass::TokenMismatch => true,
        FaultClass::Throttled | FaultClass::Conflict | FaultClass::Denied | FaultClass::Unknown => {
            false
        }
    }
}

/// What was learned about one ENI.
#[derive(Debug, Clone, Default)]
struct Track {
    belief: Option<Belief>,
    in_flight: bool,
    /// Calls in a row that found it missing.
    gone: u32,
    /// Looks in a row that did not show what was waited for, or calls in a row that failed.
    tries: u32,
    not_before: Timestamp,
    complaint: Option<Fault>,
}

/// The same for a request whose ENI has no id yet.
#[derive(Debug, Clone, Default)]
struct Request {
    asked: bool,
    /// Whether an answer was lost, so that an ENI may exist nobody told us of.
    uncertain: bool,
    in_flight: bool,
    made: Option<NewEni>,
    tries: u32,
    not_before: Timestamp,
    refused: Option<Fault>,
}

/// What was learned about one record.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Whether this process made the record, so that what it does not remember was never asked.
    born_here: bool,
    enis: BTreeMap<EniId, Track>,
    requests: BTreeMap<(InterfaceName, u32), Request>,
    dice: Dice,
}

impl Progress {
    /// Nothing learned yet; `seed` spreads its retries.
    pub fn new(seed: u64) -> Self {
        Self {
            born_here: false,
            enis: BTreeMap::new(),
            requests: BTreeMap::new(),
            dice: Dice::new(seed),
        }
    }

    /// This process made the record.
    pub fn born(&mut self) {
        self.born_here = true;
    }

    /// An ENI that was not made for the record is like this.
    pub(crate) fn found(&mut self, eni: &EniId, seen: SeenEni) {
        self.track(eni).belief = Some(Belief::Seen(seen));
    }

    /// Whether nothing was begun that takes the ENI off its node.
    pub(crate) fn untouched(&self, eni: &EniId) -> bool {
        self.enis.get(eni).is_none_or(|track| {
            let stays = |seen: &SeenEni| seen.status == EniStatus::InUse;
            let belief = track.belief.as_ref();
            !track.in_flight
                && belief.is_none_or(|belief| matches!(belief, Belief::Seen(seen) if stays(seen)))
        })
    }

    /// `call` is under way.
    pub fn called(&mut self, call: &Call) {
        match call {
            Call::Create(create) => {
                let key = (create.interface.clone(), create.attempt);
                let request = self.requests.entry(key).or_default();
                (request.asked, request.in_flight) = (true, true);
            }
            Call::Attach { eni, .. } | Call::Detach { eni, .. } => self.track(eni).in_flight = true,
            Call::Delete(eni) | Call::Look(eni) => self.track(eni).in_flight = true,
        }
    }

    /// What `call` came to.
    pub fn answered(
        &mut self,
        now: Timestamp,
        waits: &Waits,
        call: &Call,
        result: Result<Answer, Fault>,
    ) {
        let look = waits.look;
        match call {
            Call::Create(create) => {
                let key = (create.interface.clone(), create.attempt);
                self.made(now, waits.create, key, result);
            }
            Call::Look(eni) => self.looked(now, look, eni, result),
            Call::Attach { eni, .. } => {
                self.moved(now, (look, waits.attach), eni, Belief::Moving, result);
            }
            Call::Detach { eni, .. } => {
                self.moved(now, (look, waits.release), eni, Belief::Moving, result);
            }
            Call::Delete(eni) => {
                self.moved(now, (look, waits.release), eni, Belief::Gone, result);
            }
        }
    }

    fn made(
        &mut self,
        now: Timestamp,
        wait: Backoff,
        key: (InterfaceName, u32),
        result: Result<Answer, Fault>,
    ) {
        // A refusal that ends a token makes the next try another attempt, not the first one.
        let last = key.1.checked_sub(1);
        let last = last.and_then(|last| self.requests.remove(&(key.0.clone(), last)));
        let before = last.filter(|last| last.made.is_none());
        let before = before.map_or(0, |last| last.tries);
        let request = self.requests.entry(key).or_default();
        request.in_flight = false;
        request.tries = request.tries.max(before);
        match result {
            Ok(Answer::Created(eni)) => {
                let id = eni.eni.id.clone();
                request.made = Some(*eni);
                self.track(&id).belief = Some(Belief::Fresh);
            }
            Ok(_) => {}
            Err(fault) => {
                request.uncertain |= !fault.class.is_definite();
                request.tries += 1;
                let tries = request.tries;
                request.not_before = now.after(wait.wait(tries, &mut self.dice));
                request.refused = Some(fault);
            }
        }
    }

    /// A call that moves an ENI ended; `look` and `again` wait after success and after refusal.
    fn moved(
        &mut self,
        now: Timestamp,
        (look, again): (Backoff, Backoff),
        eni: &EniId,
        done: Belief,
        result: Result<Answer, Fault>,
    ) {
        let mut dice = self.dice.clone();
        let track = self.track(eni);
        track.in_flight = false;
        match result {
            Ok(_) => {
                track.belief = Some(done);
                (track.tries, track.gone, track.complaint) = (0, 0, None);
                track.not_before = now.after(look.wait(1, &mut dice));
            }
            Err(fault) if fault.class == FaultClass::Gone && track.gone + 1 >= GONE_CONFIRMED => {
                track.belief = Some(Belief::Gone);
            }
            Err(fault) => {
                track.gone = match fault.class {
                    FaultClass::Gone => track.gone + 1,
                    class if class.is_definite() => 0,
                    _ => track.gone,
                };
                // Nobody knows what it is like now: look before the next try.
                track.belief = None;
                track.tries += 1;
                track.not_before = now.after(again.wait(track.tries, &mut dice));
                track.complaint = Some(fault);
            }
        }
        self.dice = dice;
    }

    fn looked(
        &mut self,
        now: Timestamp,
        look: Backoff,
        eni: &EniId,
        result: Result<Answer, Fault>,
    ) {
        let mut dice = self.dice.clone();
        let track = self.track(eni);
        track.in_flight = false;
        track.tries += 1;
        track.not_before = now.after(look.wait(track.tries, &mut dice));
        match result {
            Ok(Answer::Seen(seen)) => {
                track.gone = 0;
                track.belief = Some(Belief::Seen(seen));
            }
            Ok(Answer::Missing) => {
                let before = match track.belief {
                    Some(Belief::Missing(looks)) => looks,
                    _ => 0,
                };
                track.belief = Some(Belief::Missing(before + 1));
            }
            Ok(_) => {}
            Err(fault) => {
                track.not_before = now.after(Backoff::CLOUD.wait(track.tries, &mut dice));
                track.complaint = Some(fault);
            }
        }
        self.dice = dice;
    }

    /// What is believed of an ENI, or why nothing can be done with it now.
    pub(super) fn eni(&self, now: Timestamp, eni: &EniId) -> Standing<'_> {
        let Some(track) = self.enis.get(eni) else {
            return Standing::Believed(None);
        };
        if track.in_flight {
            Standing::Busy
        } else if track.belief == Some(Belief::Gone) || track.not_before <= now {
            Standing::Believed(track.belief.as_ref())
        } else {
            Standing::Resting(track.not_before)
        }
    }

    /// The last refusal about an ENI that has not been followed by a success.
    pub(super) fn complaint(&self, eni: &EniId) -> Option<&Fault> {
        self.enis.get(eni)?.complaint.as_ref()
    }

    /// What became of asking for the ENI of `interface` in this attempt.
    pub(super) fn request(
        &self,
        now: Timestamp,
        interface: &InterfaceName,
        attempt: u32,
    ) -> Requested<'_> {
        let Some(request) = self.requests.get(&(interface.clone(), attempt)) else {
            return match self.born_here {
                true => Requested::Never,
                false => Requested::Unknown,
            };
        };
        match (&request.made, &request.refused) {
            (Some(eni), _) => Requested::Made(eni),
            _ if request.in_flight => Requested::Busy,
            (None, Some(fault)) => Requested::Refused {
                fault,
                again: request.not_before,
                due: request.not_before <= now,
                empty: settles(fault.class)
                    || self.born_here && !request.uncertain && fault.class.is_definite(),
            },
            (None, None) if request.asked => Requested::Unknown,
            (None, None) => Requested::Never,
        }
    }

    fn track(&mut self, eni: &EniId) -> &mut Track {
        self.enis.entry(eni.clone()).or_default()
    }
}
