//! The node's calls of the cloud, counted; `crate::budget` says how many there may be.

use std::collections::BTreeMap;

use model::{FaultClass, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    message::{CloudAnswer, CloudCall, CloudFault, OpNumber},
};
use crate::budget as windows;
pub use crate::budget::Api;
pub(super) use crate::budget::Purpose;

impl Api {
    /// Which API a call is counted under.
    pub fn of(call: &CloudCall) -> Self {
        match call {
            CloudCall::CreateEni(..) => Api::CreateNetworkInterface,
            CloudCall::AttachEni(_) => Api::AttachNetworkInterface,
            CloudCall::DetachEni(_) => Api::DetachNetworkInterface,
            CloudCall::DeleteEni(_) => Api::DeleteNetworkInterface,
            CloudCall::AssignAddresses(..) | CloudCall::AssignPrefixes(..) => {
                Api::AssignPrivateIpAddresses
            }
            CloudCall::UnassignAddresses(..) | CloudCall::UnassignPrefixes(..) => {
                Api::UnassignPrivateIpAddresses
            }
            CloudCall::DescribeNode | CloudCall::DescribeEnis(_) | CloudCall::FindEni(_) => {
                Api::DescribeNetworkInterfaces
            }
            CloudCall::DescribeVSwitches(_) => Api::DescribeVSwitches,
        }
    }
}

/// What was called lately, and what is under way.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Budget {
    windows: windows::Budget,
    open: BTreeMap<OpNumber, Api>,
}

impl Budget {
    /// Whether the cloud said lately that `api` is called too often.
    pub(super) fn is_throttled(&self, api: Api) -> bool {
        self.windows.is_throttled(api)
    }
}

impl Node {
    /// Who the call that lets the pool grow is for.
    pub(super) fn growth_purpose(&self) -> Purpose {
        if self.waiting_count() > 0 {
            Purpose::Pod
        } else {
            Purpose::Refill
        }
    }

    /// Whether `api` may be called now.
    pub(super) fn may_call(&self, now: Timestamp, api: Api, purpose: Purpose) -> bool {
        let calls = self.config.policy.calls(api);
        self.budget.windows.may_call(now, api, calls, purpose)
    }

    /// Why and until when `api` is not called for a pod, if it is not.
    pub(super) fn held_back(&self, now: Timestamp, api: Api) -> Option<(String, Timestamp)> {
        let calls = self.config.policy.calls(api);
        let windows = &self.budget.windows;
        windows.held_back(now, api, calls, "eni_conf key rate_limit")
    }

    pub(super) fn called(&mut self, now: Timestamp, number: OpNumber, api: Api) {
        self.budget.windows.called(now, api);
        self.budget.open.insert(number, api);
    }

    pub(super) fn call_answered(
        &mut self,
        now: Timestamp,
        number: OpNumber,
        result: &Result<CloudAnswer, CloudFault>,
    ) {
        let Some(api) = self.budget.open.remove(&number) else {
            return;
        };
        let throttled = matches!(result, Err(fault) if fault.class == FaultClass::Throttled);
        let windows = &mut self.budget.windows;
        windows.answered(now, api, throttled, &mut self.dice);
    }

    pub(super) fn budget_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let calls = |api| self.config.policy.calls(api);
        self.budget
            .windows
            .deadlines(now, Purpose::Housekeeping, calls)
    }
}
