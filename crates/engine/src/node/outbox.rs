//! Actions on their way out, each held back until the changes it relies on are durable.

use std::collections::VecDeque;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::Action;
use crate::ledger::Change;

/// Between decisions and the world: no action leaves before every change recorded ahead of it has
/// been reported durable. Changes recorded while a batch is being written form the next batch, so one
/// write serves all requests that came meanwhile.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outbox {
    gathering: Vec<Change>,
    writing: Option<Writing>,
    last_batch: u64,
    durable: u64,
    actions: VecDeque<(u64, Action)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Writing {
    changes: Vec<Change>,
    /// Whether the batch has been handed out and not come back failed.
    handed_out: bool,
    not_before: Timestamp,
}

impl Outbox {
    pub(super) fn record(&mut self, change: Change) {
        self.gathering.push(change);
    }

    pub(super) fn emit(&mut self, action: Action) {
        let gathering = u64::from(!self.gathering.is_empty());
        self.actions
            .push_back((self.last_batch + gathering, action));
    }

    pub(super) fn persisted(&mut self, batch: u64) {
        if batch == self.last_batch && self.writing.take().is_some() {
            self.durable = batch;
        }
    }

    /// The batch failed; the same changes are handed out again at `retry_at`.
    pub(super) fn failed(&mut self, batch: u64, retry_at: Timestamp) {
        if let (true, Some(writing)) = (batch == self.last_batch, self.writing.as_mut()) {
            writing.handed_out = false;
            writing.not_before = retry_at;
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.writing
            .as_ref()
            .filter(|writing| !writing.handed_out)
            .map(|writing| writing.not_before)
    }

    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Action> {
        if self.writing.is_none() && !self.gathering.is_empty() {
            let changes = core::mem::take(&mut self.gathering);
            self.writing = Some(Writing {
                changes,
                handed_out: false,
                not_before: now,
            });
            self.last_batch += 1;
        }
        if let Some(writing) = &mut self.writing
            && !writing.handed_out
            && writing.not_before <= now
        {
            writing.handed_out = true;
            return Some(Action::Persist(self.last_batch, writing.changes.clone()));
        }
        let (needs, _) = self.actions.front()?;
        if *needs > self.durable {
            return None;
        }
        self.actions.pop_front().map(|(_, action)| action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::EntryKey;

    fn change(n: u64) -> Change {
        Change::Delete(EntryKey::Intent(n))
    }

    #[test]
    fn an_action_waits_for_the_changes_before_it() {
        let now = Timestamp::EPOCH;
        let mut out = Outbox::default();
        out.emit(Action::ReadLinks);
        out.record(change(1));
        out.emit(Action::ReadLinks);
        assert!(matches!(out.poll(now), Some(Action::Persist(1, _))));
        assert_eq!(out.poll(now), Some(Action::ReadLinks), "relies on nothing");
        assert_eq!(out.poll(now), None, "relies on batch 1");
        out.record(change(2));
        assert_eq!(out.poll(now), None, "batch 2 waits for batch 1");
        out.persisted(1);
        assert!(matches!(out.poll(now), Some(Action::Persist(2, changes)) if changes.len() == 1));
        assert_eq!(out.poll(now), Some(Action::ReadLinks), "batch 1 is durable");
    }

    #[test]
    fn a_failed_batch_is_written_again_and_nothing_overtakes_it() {
        let mut out = Outbox::default();
        out.record(change(1));
        out.emit(Action::ReadLinks);
        assert!(out.poll(Timestamp::EPOCH).is_some());
        let later = Timestamp::from_nanos(9);
        out.failed(1, later);
        assert_eq!(out.deadline(), Some(later));
        assert_eq!(out.poll(Timestamp::EPOCH), None);
        assert!(matches!(out.poll(later), Some(Action::Persist(1, _))));
        assert_eq!(out.poll(later), None);
        out.persisted(1);
        assert_eq!(out.poll(later), Some(Action::ReadLinks));
    }
}
