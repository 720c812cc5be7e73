//! Self-heal in the simulated kernel: what a foreign process took, as the machine's looks find it and its
//! repairs put it back.

use std::time::Duration;

use engine::node::{Finding, Input, Lack, Lacks, Remedy, Standing};
use model::{AttachmentKey, net::PodNet};

use crate::{
    agent::KernelWork,
    kernel::Kernel,
    world::{Event, World},
};

/// How long the watch of the product gathers announcements.
const WINDOW: Duration = Duration::from_millis(100);

impl World {
    /// Says how long the agent stays dead if it died over it.
    pub(crate) fn heal(&mut self, node: usize, life: u64, remedy: Remedy) -> Option<u64> {
        match remedy {
            // A look changes nothing and waits for nothing that is set up.
            Remedy::Compare(standing) => {
                let work = Box::new(KernelWork::Compare(standing));
                self.soon(20, Event::Kernel(node, life, work));
                None
            }
            Remedy::Mend(key, net) => self.change_kernel(node, life, KernelWork::Mend(key, net)),
            // This kernel has no sysctls that somebody could change.
            Remedy::Write(_) => None,
        }
    }

    /// The kernel announces that something changed. Now and then it does not, or nobody listens.
    pub(crate) fn disturb(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if self.dice.below(4) != 0 {
            let input = Box::new(Input::Heal(Finding::Disturbed));
            self.after(WINDOW, Event::Input(node, life, input));
        }
    }
}

impl Kernel {
    pub(crate) fn compare(&self, standing: Standing) -> Finding {
        let mut lacks = Lacks::default();
        for (key, net) in standing.pods {
            let cut = !self.has_veth(&net);
            let what = self.lacked(&net);
            if cut || !what.is_empty() {
                lacks.pods.push((key, Lack { what, cut }));
            }
        }
        for (id, _) in standing.enis {
            if !self.ready(&id) {
                let what = vec!["link".into()];
                lacks.enis.push((id, Lack { what, cut: true }));
            }
        }
        Finding::Compared(Ok(lacks))
    }

    pub(crate) fn mend(&mut self, key: AttachmentKey, net: &PodNet) -> Finding {
        let lacked = self.lacked(net);
        let result = match self.has_veth(net) {
            true => self.refuses().map(|()| {
                self.add_rules(&key, net);
                lacked
            }),
            false => Err(format!("there is no link {}", net.veth.host)),
        };
        Finding::Mended(key, result)
    }

    fn lacked(&self, net: &PodNet) -> Vec<String> {
        let missing = net.host_rules.iter().filter(|rule| !self.has_rule(rule));
        missing.map(|rule| format!("{rule:?}")).collect()
    }
}
