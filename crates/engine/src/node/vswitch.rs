//! Which vSwitch the next ENI's addresses come from: the first configured one of the node's zone that
//! has some left, as far as is known.

use std::time::Duration;

use model::{Timestamp, VSwitch, VSwitchId};

use super::{
    Node, Op,
    message::{CloudAnswer, CloudCall, CloudFault, Notice},
};

/// How long what is known about vSwitches serves.
const VSWITCH_KEEP: Duration = Duration::from_secs(600);

/// How long the pool does not grow after a refusal that only a person can lift.
pub(super) const REFUSED_REST: Duration = Duration::from_secs(30);

/// What is known about a configured vSwitch.
#[derive(Debug, Default)]
pub(super) struct VSwitchState {
    described: Option<VSwitch>,
    /// The cloud answered, and it was not among the answers.
    absent: bool,
    pub(super) full_until: Timestamp,
}

impl Node {
    /// Asks about the configured vSwitches when what is known is old.
    pub(super) fn look_at_vswitches(&mut self, now: Timestamp) {
        if self.vswitch_poll.is_new() && !self.config.vswitches.is_empty() {
            self.vswitch_poll.want();
        }
        if self.vswitch_poll.take_due(now) {
            let ids = self.config.vswitches.clone();
            self.call(Op::VSwitches, CloudCall::DescribeVSwitches(ids));
        }
    }

    /// The first configured vSwitch of the node's zone that has addresses left, as far as is known.
    pub(super) fn choose_vswitch(&mut self, now: Timestamp) -> Option<VSwitchId> {
        if self.vswitch_poll.in_flight {
            return None;
        }
        let usable = |id: &&VSwitchId| {
            let state = self.vswitches.get(*id);
            let elsewhere = state
                .and_then(|state| state.described.as_ref())
                .is_some_and(|vswitch| {
                    vswitch.zone != self.config.zone || vswitch.available_addresses == 0
                });
            !elsewhere && state.is_none_or(|state| !state.absent && state.full_until <= now)
        };
        if let Some(id) = self.config.vswitches.iter().find(usable) {
            return Some(id.clone());
        }
        let names: Vec<_> = self
            .config
            .vswitches
            .iter()
            .map(VSwitchId::as_str)
            .collect();
        let reason = if names.is_empty() {
            format!(
                "eni_conf key vswitches lists none for the node's zone {}",
                self.config.zone
            )
        } else {
            format!(
                "none of the vSwitches {} has a free address in zone {} (eni_conf key vswitches)",
                names.join(", "),
                self.config.zone
            )
        };
        self.stop_growth(now, REFUSED_REST, reason);
        self.vswitch_poll.again(now.after(REFUSED_REST), 0);
        None
    }

    pub(super) fn vswitches_done(
        &mut self,
        now: Timestamp,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        self.vswitch_poll.answered();
        match result {
            Ok(CloudAnswer::VSwitches(list)) => {
                for id in self.config.vswitches.clone() {
                    let described = list.iter().find(|vswitch| vswitch.id == id).cloned();
                    self.judge_vswitch(&id, described.as_ref());
                    let state = self.vswitches.entry(id).or_default();
                    state.absent = described.is_none();
                    state.described = described;
                }
                self.vswitch_poll.again(now.after(VSWITCH_KEEP), 0);
            }
            Ok(_) => self.vswitch_poll.again(now.after(REFUSED_REST), 0),
            Err(fault) => {
                self.cloud_failed("describing the vSwitches of eni_conf key vswitches", &fault);
                self.vswitch_poll.again(now.after(REFUSED_REST), 0);
            }
        }
    }

    fn judge_vswitch(&mut self, id: &VSwitchId, described: Option<&VSwitch>) {
        let zone = &self.config.zone;
        let complaint = match described {
            None => {
                format!("eni_conf key vswitches names {id}, which does not exist in the region")
            }
            Some(vswitch) if vswitch.zone != *zone => format!(
                "eni_conf key vswitches lists {id} under zone {zone}, but it is in {}",
                vswitch.zone
            ),
            Some(_) => return,
        };
        self.notice(Notice::CloudFailed(complaint));
    }
}
