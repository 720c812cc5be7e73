//! What goes wrong with the world beside what steps say.

use engine::{ledger::Ledger, node::Input};
use model::Timestamp;

use super::World;

impl World {
    pub(crate) fn cut_off(&mut self) {
        self.faults.cut_off = true;
    }

    pub(crate) fn reconnect(&mut self) {
        self.faults.cut_off = false;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn give(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.settle();
    }

    pub(crate) fn fill(&mut self, vswitch: &str) {
        self.cloud.fill(vswitch);
    }

    /// The agent starts again without its ledger; the pods live on.
    pub(crate) fn lose_ledger(&mut self) {
        self.disk = Ledger::default();
        self.lost = self.given.keys().cloned().collect();
        self.kill();
    }
}
