//! Whether what people are told has run out has run out, and whether a pod that waits for it is
//! explained so. What is true is taken from the cloud's refusals, the configuration and the schedule,
//! never from the machine.

use engine::node::{ExhaustionKind, Explanation, Node, PodState};
use model::{Exhausted, FaultClass, PodKey};

use crate::{node::SimNode, runtime::pod_key, world::World};

const ORACLE: &str = "what ran out is named";

impl World {
    /// The schedule knows what stands in the way of the pods of a node: somebody asks.
    pub(crate) fn ask_why(&mut self, node: usize, kind: ExhaustionKind, named: &str) {
        let Some(machine) = &self.nodes[node].machine else {
            return;
        };
        let now = self.nodes[node].time(self.now);
        let told = machine.view(now).exhausted;
        let right = told
            .as_ref()
            .is_some_and(|state| state.kind == kind && state.reason.contains(named));
        // Without a prefix pods are served by single addresses: nobody need wait.
        let waiting = self.waiting(node, machine);
        let unexplained = waiting.iter().find(|pod| {
            let told = machine.explain(pod, now);
            !explained(&told, kind) || !told.missing.is_some_and(|why| why.contains(named))
        });
        let reached = !waiting.is_empty() || kind == ExhaustionKind::Prefix;
        let text = match unexplained {
            _ if !right => format!("{kind:?} ({named}) is told as {told:?}"),
            _ if !reached => format!("nobody waits for {kind:?}"),
            Some(pod) if kind != ExhaustionKind::Prefix => {
                let told = machine.explain(pod, now);
                format!("{kind:?} ({named}) is explained as {told:?}")
            }
            _ => return,
        };
        self.oracle.fail(ORACLE, text);
    }

    /// People were just told that something ran out: so it must be.
    pub(crate) fn judge_reason(&mut self, node: usize, machine: &Node) {
        let Some(state) = self.nodes[node].ran_out.take() else {
            return;
        };
        if !self.has_run_out(&self.nodes[node], machine, state.kind) {
            return self.oracle.fail(ORACLE, format!("not so: {state:?}"));
        }
        let now = self.nodes[node].time(self.now);
        // That the pool grows without prefixes is no reason why a pod waits.
        if state.kind == ExhaustionKind::Prefix {
            return;
        }
        // Two calls refused at once: people were told of one, and ask about the other.
        let later = machine.view(now).exhausted;
        let later = later.filter(|later| later.kind == state.kind);
        let reasons = [&state].into_iter().chain(&later);
        let reasons: Vec<&str> = reasons.map(|state| state.reason.as_str()).collect();
        let says = |told: &Explanation| {
            let mut missing = told.missing.iter();
            let named = |why: &String| reasons.iter().any(|reason| why.contains(reason));
            // A refusal that waits for the disk tells what stood in the way then.
            told.state == PodState::Failed || explained(told, state.kind) && missing.any(named)
        };
        let waiting = self.waiting(node, machine);
        let unexplained = waiting
            .iter()
            .map(|pod| machine.explain(pod, now))
            .find(|told| !says(told));
        if let Some(told) = unexplained {
            self.oracle.fail(ORACLE, format!("{state:?}: {told:?}"));
        }
    }

    /// Pods of the node whose ADD has come and has no answer, and for which no address is chosen.
    fn waiting(&self, node: usize, machine: &Node) -> Vec<PodKey> {
        let chosen = |key: &PodKey| machine.ledger().attachments().any(|it| it.pod == *key);
        let pods = self.nodes[node].runtime.waiting().map(pod_key);
        pods.filter(|pod| !chosen(pod)).collect()
    }

    fn has_run_out(&self, node: &SimNode, machine: &Node, kind: ExhaustionKind) -> bool {
        let said = |what| self.cloud.said.contains(&FaultClass::Exhausted(what));
        let (config, limits) = (&node.config, node.config.limits);
        match kind {
            ExhaustionKind::VSwitch => said(Exhausted::VSwitch) || self.cloud.was_full,
            ExhaustionKind::EniQuota => {
                // An ENI set up by a life before this one stays so while the kernel refuses to do it again.
                let now = node.time(self.now);
                let unused = || machine.view(now).enis.iter().any(|eni| !eni.usable);
                said(Exhausted::EniPerInstance) || config.enis_max < limits.enis - 1 || unused()
            }
            ExhaustionKind::AddressQuota => {
                machine.ledger().enis().count() >= config.enis_max as usize
            }
            ExhaustionKind::AccountQuota => said(Exhausted::Account),
            ExhaustionKind::SecurityGroup => said(Exhausted::SecurityGroup),
            ExhaustionKind::Prefix => config.policy.prefixes.is_some(),
            ExhaustionKind::Throttled => {
                let spent = self.cloud.calls.values().any(|calls| *calls >= 60);
                spent || self.cloud.said.contains(&FaultClass::Throttled)
            }
            ExhaustionKind::Denied => self.cloud.said.contains(&FaultClass::Denied),
            ExhaustionKind::Misconfigured => {
                let said = [FaultClass::Invalid, FaultClass::Gone];
                said.iter().any(|class| self.cloud.said.contains(class))
            }
        }
    }
}

/// Whether an explanation says what lacks and what a person can do about it.
fn explained(told: &Explanation, kind: ExhaustionKind) -> bool {
    told.missing.is_some() && told.next.contains(kind.remedy())
}
