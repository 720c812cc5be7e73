//! What can be made to go wrong, as data.

use std::collections::BTreeSet;

use model::VSwitchId;
use serde::{Deserialize, Serialize};

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallFault {
    /// Refused with `Throttling`; nothing is carried out.
    Throttle,
    /// Answered with 500 `InternalError`; nothing is carried out.
    ServerError,
    /// Carried out, then answered with 500 `InternalError`.
    ServerErrorAfter,
    /// Carried out, then the connection breaks.
    LoseAnswer,
    /// Carried out, then the JSON ends in its middle.
    CutAnswer,
    /// A Describe answers as if nothing were there.
    EmptyList,
}

/// A rule that makes the region misbehave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The next calls of an action go wrong.
    Calls {
        /// The action, for example `AttachNetworkInterface`; any when absent.
        action: Option<String>,
        /// How many calls.
        times: u32,
        /// How.
        how: CallFault,
    },
    /// A vSwitch has no free address, whatever the count says, or has them again.
    VSwitchFull {
        /// The vSwitch.
        vswitch: VSwitchId,
        /// Whether it is full.
        full: bool,
    },
}

/// The rules in force, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    calls: Vec<(Option<String>, u32, CallFault)>,
    full: BTreeSet<VSwitchId>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        match fault {
            Fault::Calls { times: 0, .. } => {}
            Fault::Calls { action, times, how } => self.calls.push((action, times, how)),
            Fault::VSwitchFull {
                vswitch,
                full: true,
            } => {
                self.full.insert(vswitch);
            }
            Fault::VSwitchFull {
                vswitch,
                full: false,
            } => {
                self.full.remove(&vswitch);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What goes wrong with this call of `action`; the oldest rule that fits is used up first.
    pub(crate) fn take(&mut self, action: &str) -> Option<CallFault> {
        let fits = |rule: &Option<String>| rule.as_deref().is_none_or(|name| name == action);
        let index = self.calls.iter().position(|(rule, _, _)| fits(rule))?;
        let (_, left, how) = self.calls.get_mut(index)?;
        let how = *how;
        *left -= 1;
        if *left == 0 {
            self.calls.remove(index);
        }
        Some(how)
    }

    pub(crate) fn is_full(&self, vswitch: &VSwitchId) -> bool {
        self.full.contains(vswitch)
    }
}
