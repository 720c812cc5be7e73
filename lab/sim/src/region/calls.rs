//! Calls and writes from the control plane to their servers and back, with what may go wrong on the way.

use std::collections::BTreeMap;

use engine::{
    budget::Api,
    cluster::{Action, Input, WriteFault},
    podeni::{Call, Fault, SeenEni},
};
use model::{EniId, EniKind, EniStatus, FaultClass};

use super::{
    schedule::{Fate, Target},
    world::World,
};
use crate::world::Chance;

/// Milliseconds after which a client gives an answer up.
const GIVEN_UP: u64 = 10_000;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As the seed says.
    Random,
    /// As the cloud's own take on a quiet day, always the same.
    Quiet,
}

/// Milliseconds of a call that changes something, of one that looks, and of a write, on a quiet day.
pub(super) const CALL: u64 = 400;
pub(super) const LOOK: u64 = 200;
pub(super) const WRITE: u64 = 10;

impl Pace {
    pub(super) fn there(self, target: Target, dice: &mut Chance) -> u64 {
        let quiet = match target {
            Target::Write => WRITE,
            Target::Look | Target::List | Target::VSwitches => LOOK,
            _ => CALL,
        };
        match self {
            Pace::Quiet => quiet,
            Pace::Random => 1 + dice.below(quiet),
        }
    }

    pub(super) fn back(self, dice: &mut Chance) -> u64 {
        match self {
            Pace::Quiet => 0,
            Pace::Random => 1 + dice.below(200),
        }
    }

    pub(super) fn watch(self, dice: &mut Chance) -> u64 {
        match self {
            Pace::Quiet => WRITE,
            Pace::Random => 1 + dice.below(50),
        }
    }
}

/// What an action is about.
pub(super) fn target(action: &Action) -> Target {
    match action {
        Action::Store(..) | Action::Resolve(..) | Action::Notice(_) => Target::Write,
        Action::Call(_, Call::Create(_)) => Target::Create,
        Action::Call(_, Call::Attach { .. }) => Target::Attach,
        Action::Call(_, Call::Detach { .. }) => Target::Detach,
        Action::Call(_, Call::Delete(_)) => Target::Delete,
        Action::Call(_, Call::Look(_)) | Action::Look(..) => Target::Look,
        Action::DescribeVSwitches(..) => Target::VSwitches,
        Action::ListEnis(_) => Target::List,
    }
}

fn api_of(target: Target) -> Option<Api> {
    Some(match target {
        Target::Create => Api::CreateNetworkInterface,
        Target::Attach => Api::AttachNetworkInterface,
        Target::Detach => Api::DetachNetworkInterface,
        Target::Delete => Api::DeleteNetworkInterface,
        Target::Look | Target::List => Api::DescribeNetworkInterfaces,
        Target::VSwitches => Api::DescribeVSwitches,
        Target::Write => return None,
    })
}

impl World {
    /// What comes of a call or a write, and after how many milliseconds beside the usual.
    pub(super) fn end(&mut self, action: Action, fate: Option<Fate>, life: u64) -> (Input, u64) {
        let unknown = fault(FaultClass::Unknown, "no answer in time");
        match fate {
            Some(Fate::NeverSent) => (failed(&action, unknown), GIVEN_UP),
            Some(Fate::Refused) => {
                let refused = fault(FaultClass::Throttled, "refused");
                (failed(&action, refused), 0)
            }
            Some(Fate::AnswerLost | Fate::LostThenRefused) => {
                let lost = failed(&action, unknown);
                self.written_by(life, &action);
                self.carry_out(action, None);
                (lost, GIVEN_UP)
            }
            Some(Fate::AnswerLate(late)) => {
                self.written_by(life, &action);
                (self.carry_out(action, None), late)
            }
            Some(Fate::Short | Fate::Empty | Fate::Half) | None => {
                self.written_by(life, &action);
                (self.carry_out(action, fate), 0)
            }
        }
    }

    /// What a dead controller still writes is to the next one as if somebody wrote it by hand.
    fn written_by(&mut self, life: u64, action: &Action) {
        if let (Action::Store(key, _), true) = (action, life != self.life) {
            self.oracle.other_hand(self.api.records.get(key));
        }
    }

    pub(super) fn carry_out(&mut self, action: Action, fate: Option<Fate>) -> Input {
        let limit = api_of(target(&action)).map(|api| (api, self.config.calls(api)));
        let counted = match limit {
            Some((api, limit)) => self.cloud.counted(self.now, api, limit),
            None => Ok(()),
        };
        if let Err(class) = counted {
            return failed(&action, fault(class, "the minute is full"));
        }
        match action {
            Action::Store(key, store) => {
                if self.thorough {
                    self.oracle.stored(&key, &store, &self.api, &self.cloud);
                }
                let result = self.api.store(&key, store, fate == Some(Fate::Half));
                self.oracle.born(self.now, self.api.records.get(&key));
                if result != Err(WriteFault::Stale) {
                    self.watch_record(&key);
                }
                Input::Written(key, result)
            }
            Action::Resolve(name, resolved) => {
                self.api.networking.resolved = Some(resolved);
                self.watch_networking();
                Input::Resolved(name, Ok(()))
            }
            Action::Call(op, call) => {
                if self.thorough {
                    self.oracle.arrived(&call, &self.api);
                }
                let result = self.cloud.carry_out(self.now, &call);
                Input::Called(op, result.map_err(|class| fault(class, &class.to_string())))
            }
            Action::Look(op, enis) => Input::Looked(op, Ok(self.seen(enis, fate))),
            Action::DescribeVSwitches(op, ids) => {
                let found = ids.iter().filter_map(|id| self.cloud.vswitch(id));
                let found = found.filter(|_| !matches!(fate, Some(Fate::Short | Fate::Empty)));
                Input::VSwitches(op, Ok(found.collect()))
            }
            Action::ListEnis(op) => {
                let empty = matches!(fate, Some(Fate::Short | Fate::Empty));
                let listed = if empty { vec![] } else { self.cloud.list() };
                Input::Listed(op, Ok(listed))
            }
            Action::Notice(_) => Input::Tick,
        }
    }

    fn seen(&self, enis: Vec<EniId>, fate: Option<Fate>) -> BTreeMap<EniId, SeenEni> {
        let trunks = self.api.nodes.iter();
        let trunks: Vec<_> = trunks.filter_map(|node| node.trunk.as_ref()).collect();
        let seen = enis.into_iter().filter_map(|id| {
            let found = match (trunks.contains(&&id), fate) {
                (_, Some(Fate::Empty)) | (false, Some(Fate::Short)) => return None,
                (true, _) => TRUNK,
                (false, _) => self.cloud.seen(&id)?,
            };
            Some((id, found))
        });
        seen.collect()
    }
}

/// A trunk as the cloud describes it: that it exists is all that matters.
const TRUNK: SeenEni = SeenEni {
    status: EniStatus::InUse,
    kind: EniKind::Trunk,
    instance: None,
    trunk: None,
    vlan: None,
};

fn fault(class: FaultClass, text: &str) -> Fault {
    Fault {
        class,
        text: text.into(),
    }
}

/// The answer to an action that was refused, or whose outcome nobody knows.
fn failed(action: &Action, fault: Fault) -> Input {
    let text = fault.text.clone();
    match action {
        Action::Store(key, _) => Input::Written(key.clone(), Err(WriteFault::Failed(text))),
        Action::Resolve(name, _) => Input::Resolved(name.clone(), Err(text)),
        Action::Call(op, _) => Input::Called(*op, Err(fault)),
        Action::Look(op, _) => Input::Looked(*op, Err(fault)),
        Action::DescribeVSwitches(op, _) => Input::VSwitches(*op, Err(fault)),
        Action::ListEnis(op) => Input::Listed(*op, Err(fault)),
        Action::Notice(_) => Input::Tick,
    }
}
