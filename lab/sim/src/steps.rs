//! What each step of a schedule does to the world.

use std::time::Duration;

use cloudsim::{Fault, Timing};
use model::{EniStatus, Timestamp};

use crate::{
    node::{SimNode, TAG},
    schedule::{CrashPoint, Step},
    world::World,
};

impl World {
    pub(crate) fn carry_out_step(&mut self, step: Step) {
        if let Some(kind) = step.fault() {
            self.report.fault(kind);
            self.oracle.last_fault = Some(self.now);
        }
        let millis = Duration::from_millis;
        match step {
            Step::Create(node, pod, quirk) => self.create_pod(self.at(node), pod, quirk),
            Step::Delete(node, pod, quirk) => self.delete_pod(self.at(node), pod, quirk),
            Step::Finish(node, pod) => self.finish_pod(self.at(node), pod),
            Step::NoPods(node, times) => self.node(node).deaf = times,
            Step::Resandbox(node, pod, quirk) => self.resandbox(self.at(node), pod, quirk),
            Step::Check(node, pod) => self.check_pod(self.at(node), pod),
            Step::Gc(node) => self.gc(self.at(node)),
            Step::Crash(node, CrashPoint::Now, down) => self.crash_agent(self.at(node), down),
            Step::Crash(node, point, down) => self.node(node).crash = Some((point, down)),
            Step::Reboot(node) => self.reboot(self.at(node)),
            Step::Replace(node) => self.replace(self.at(node)),
            Step::LoseDisk(node) => self.lose_disk(self.at(node)),
            Step::DiskFull(node, times) => self.node(node).disk.refuse = times,
            Step::Calls(action, times, how) => {
                let times = times.into();
                self.cloud
                    .region
                    .inject(Fault::Calls { action, times, how });
            }
            Step::Refuse(action, code) => self.cloud.refuse(action, code),
            Step::Explain(node, kind, named) => self.ask_why(self.at(node), kind, &named),
            Step::Answer(node, fate) => self.node(node).fates.push_back(fate),
            Step::Outage(length) => self.outage = self.now.after(millis(length)),
            Step::Lag(describe, metadata) => {
                self.oracle.misled |= describe > 0;
                self.lag(millis(describe), millis(metadata));
            }
            Step::Fill(vswitch, full) => {
                if let Some(id) = self.cloud.pool_vswitches().get(vswitch).cloned() {
                    self.cloud
                        .region
                        .inject(Fault::VSwitchFull { vswitch: id, full });
                }
            }
            Step::Tenants(calls) => self.cloud.tenants = calls,
            Step::Kernel(node, times) => self.node(node).kernel.refuse = times,
            Step::Unlink(node, pod) => self.unlink(self.at(node), pod),
            Step::Flush(node) => {
                let node = self.at(node);
                self.nodes[node].kernel.flush();
                self.disturb(node);
            }
            Step::Relink(node) => {
                let node = self.at(node);
                self.nodes[node].kernel.relink();
                self.nodes[node].relinked = true;
                let life = self.nodes[node].life;
                self.soon(5, crate::world::Event::Links(node, life));
            }
            Step::LateLinks(node, delay) => self.node(node).link_delay = millis(delay),
            Step::Foreign(node) => self.plug_foreign(self.at(node)),
            Step::Clock(node, by) => self.step_clock(self.at(node), by),
            Step::Pool(node, min, max) => {
                let node = self.at(node);
                let config = &mut self.nodes[node].config;
                (config.idle_min, config.idle_max) = (min, max.max(min));
                let config = Box::new(config.clone());
                self.feed(node, engine::node::Input::Configured(config));
            }
        }
    }

    /// A step may name a node that a shrunk world does not have.
    fn at(&self, node: usize) -> usize {
        node % self.nodes.len()
    }

    fn node(&mut self, node: usize) -> &mut SimNode {
        let node = self.at(node);
        &mut self.nodes[node]
    }

    pub(crate) fn lag(&mut self, describe_lag: Duration, metadata_lag: Duration) {
        let timing = Timing {
            describe_lag,
            metadata_lag,
            ..self.cloud.region.config().timing
        };
        self.cloud.region.set_timing(timing);
    }

    fn reboot(&mut self, node: usize) {
        let down = 5000 + self.dice.below(10_000);
        self.crash_agent(node, down);
        self.nodes[node].kernel.reboot();
        self.sandboxes_died(node);
    }

    /// The agent dies, and nothing that is still under way belongs to its next life.
    fn end_life(&mut self, node: usize, down: u64) {
        self.crash_agent(node, down);
        self.nodes[node].life += 1;
        let start = crate::world::Event::Start(node, self.nodes[node].life);
        self.after(Duration::from_millis(down), start);
    }

    fn lose_disk(&mut self, node: usize) {
        self.oracle.misled = true;
        self.abandon();
        self.end_life(node, 500);
        self.nodes[node].disk.clear();
        // A pod whose link somebody deleted has left no trace but the ledger's, and no network either.
        let here = &self.nodes[node];
        let cut: Vec<_> = here
            .runtime
            .ready()
            .filter(|key| !here.kernel.has_link(key))
            .cloned()
            .collect();
        for key in cut {
            self.oracle.take(node, &key);
        }
        self.nodes[node].kernel.orphan_all();
        self.oracle.ledger_lost(node);
    }

    fn replace(&mut self, node: usize) {
        self.oracle.misled = true;
        self.abandon();
        self.end_life(node, 30_000);
        self.forget_pods(node);
        self.oracle.take_all(node);
        let old = self.nodes[node].config.instance.clone();
        self.cloud.region.release_instance(self.now, &old);
        self.follow(false);
        let setup = self.schedule.setup.clone();
        match SimNode::new(&setup, node, &mut self.cloud, self.now) {
            Ok(mut fresh) => {
                let here = &mut self.nodes[node];
                // The lives go on counting, so that nothing of the old node reaches the new one.
                fresh.life = here.life;
                fresh.clock = here.clock;
                // The foreign ENIs went with the old instance.
                fresh.config.enis_max = here.config.enis_max;
                std::mem::swap(&mut fresh.runtime, &mut here.runtime);
                *here = fresh;
            }
            Err(error) => self.oracle.fail("the simulator works", error.to_string()),
        }
        self.follow(false);
    }

    /// A ledger is about to be lost: what of ours hangs on no instance is nobody's afterwards, until
    /// the control plane collects it.
    fn abandon(&mut self) {
        for eni in self.cloud.region.snapshot().enis {
            let ours = eni.tags.get(TAG.0).is_some_and(|value| value == TAG.1);
            if ours && eni.status != EniStatus::InUse {
                self.oracle.abandoned.insert(eni.id);
            }
        }
    }

    fn unlink(&mut self, node: usize, pod: u16) {
        let here = &mut self.nodes[node];
        let sandbox = here
            .runtime
            .pods
            .get(&pod)
            .and_then(|pod| pod.sandbox.as_ref());
        let Some(key) = sandbox.map(|sandbox| sandbox.key.clone()) else {
            return;
        };
        here.kernel.unlink(&key);
        if here.kernel.is_orphan(&key) {
            self.oracle.take(node, &key);
        }
        self.disturb(node);
    }

    /// Somebody else attaches an ENI, and the node holds less than its configuration says.
    fn plug_foreign(&mut self, node: usize) {
        self.oracle.misled = true;
        let instance = self.nodes[node].config.instance.clone();
        // Refused where the instance is full already.
        if let Ok(eni) = self.cloud.foreign(self.now, &instance) {
            self.oracle.foreign.insert(eni);
        }
        self.follow_region();
    }

    fn step_clock(&mut self, node: usize, by: i64) {
        let here = &mut self.nodes[node];
        here.clock += by * 1_000_000;
        if by < 0 {
            here.stepped_back += Duration::from_millis(by.unsigned_abs());
        }
        let life = here.life;
        // Timers of the agent run on the steady clock: its next look comes as if nothing had happened.
        self.oracle.clock_stepped(node);
        self.oracle.clock_moved = true;
        let tick = Box::new(engine::node::Input::Tick);
        self.soon(1000, crate::world::Event::Input(node, life, tick));
    }

    /// Whether an instant lies before now.
    pub(crate) fn past(&self, at: Timestamp) -> bool {
        at <= self.now
    }
}
