//! What somebody else does to the node's network, and how this world compares and mends.

use std::{collections::BTreeSet, time::Duration};

use engine::node::{Finding, Input, Lack, Lacks, Remedy, Standing};
use model::{
    AttachmentKey, EniId, Mac, Timestamp,
    net::{PodNet, Sysctl},
};

use super::{Asked, World};

/// What others did, and what was done about it.
#[derive(Default)]
pub(crate) struct Harm {
    /// ENIs whose table was flushed.
    pub(crate) enis: BTreeSet<EniId>,
    /// Paths of sysctls that have another value.
    pub(crate) sysctls: BTreeSet<String>,
    /// Sysctls cannot be written.
    pub(crate) read_only: bool,
    /// Comparisons fail.
    pub(crate) blind: bool,
    /// When each look began.
    pub(crate) looks: Vec<Timestamp>,
    /// Sysctls that were judged last.
    pub(crate) judged: Vec<Sysctl>,
    /// CHECKs that found everything.
    pub(crate) checked: u32,
    /// A repair that is under way.
    held: Option<Input>,
    hold: bool,
}

impl World {
    pub(super) fn heal(&mut self, remedy: Remedy) {
        let finding = match remedy {
            Remedy::Compare(standing) => Finding::Compared(self.compare(*standing)),
            Remedy::Mend(key, net) => {
                let result = self.mend(&key, &net);
                Finding::Mended(key, result)
            }
            Remedy::Write(sysctls) => {
                let paths: Vec<_> = sysctls.into_iter().map(|it| it.path).collect();
                let (done, refused) = match self.harm.read_only {
                    true => (Vec::new(), paths),
                    false => (paths, Vec::new()),
                };
                self.harm.sysctls.retain(|path| !done.contains(path));
                Finding::Written { done, refused }
            }
        };
        let input = Input::Heal(finding);
        match std::mem::take(&mut self.harm.hold) {
            true => self.harm.held = Some(input),
            false => self.inbox.push_back(input),
        }
    }

    fn compare(&mut self, standing: Standing) -> Result<Lacks, String> {
        self.harm.looks.push(self.now);
        if self.harm.blind {
            return Err("no answer".into());
        }
        let mut lacks = Lacks::default();
        for (key, net) in standing.pods {
            let what = self.lacked(&key, &net);
            let cut = !self.kernel.links.contains_key(&key);
            if !what.is_empty() || cut {
                lacks.pods.push((key, Lack { what, cut }));
            }
        }
        for (id, _) in standing.enis {
            if self.harm.enis.contains(&id) {
                let what = vec!["route".into()];
                lacks.enis.push((id, Lack { what, cut: false }));
            }
        }
        let wrong = |it: &Sysctl| self.harm.sysctls.contains(&it.path);
        self.harm.judged = standing.sysctls.clone();
        lacks.sysctls = standing.sysctls.into_iter().filter(wrong).collect();
        Ok(lacks)
    }

    fn lacked(&self, key: &AttachmentKey, net: &PodNet) -> Vec<String> {
        let link = self.kernel.links.get(key);
        let renumbered = link.is_some_and(|(link, _)| link.mac != net.veth.host_mac);
        let rules = net.host_rules.iter();
        let missing = rules.filter(|rule| !self.kernel.rules.contains(rule));
        let missing = missing.map(|rule| format!("rule {}", rule.priority));
        missing.chain(renumbered.then(|| "MAC".into())).collect()
    }

    fn mend(&mut self, key: &AttachmentKey, net: &PodNet) -> Result<Vec<String>, String> {
        let lacked = self.lacked(key, net);
        self.kernel_says()?;
        let Some((link, _)) = self.kernel.links.get_mut(key) else {
            return Err("there is no link".into());
        };
        link.mac = net.veth.host_mac;
        self.kernel.rules.extend(net.host_rules.iter().cloned());
        Ok(lacked)
    }

    /// Somebody flushes the rules, and the kernel announces it.
    pub(crate) fn flush_rules(&mut self) {
        self.kernel.rules.clear();
        self.disturb();
    }

    /// The runtime asks whether a pod is whole.
    pub(crate) fn check_pod(&mut self, pod: u8) {
        let number = self.request(Asked::Check(pod));
        self.inbox.push_back(Input::Check(number, self.key(pod)));
    }

    /// The kernel announces a change.
    pub(crate) fn disturb(&mut self) {
        self.inbox.push_back(Input::Heal(Finding::Disturbed));
    }

    /// An ENI's table is flushed, and the kernel announces it.
    pub(crate) fn flush_eni(&mut self, id: &EniId) {
        self.harm.enis.insert(id.clone());
        self.disturb();
    }

    /// Lets milliseconds pass, with every deadline on the way kept.
    pub(crate) fn pass_millis(&mut self, millis: u64) {
        self.pass_for(Duration::from_millis(millis));
    }

    /// The next answer about looks and repairs stays on its way.
    pub(crate) fn hold_repair(&mut self) {
        self.harm.hold = true;
    }

    /// The answer that was held arrives.
    pub(crate) fn deliver_repair(&mut self) -> bool {
        let held = self.harm.held.take();
        let there = held.is_some();
        self.inbox.extend(held);
        self.settle();
        there
    }

    /// The MAC of the node's end of a pod.
    pub(crate) fn link_mac(&self, pod: u8) -> Mac {
        self.kernel.links[&self.key(pod)].0.mac
    }
}
