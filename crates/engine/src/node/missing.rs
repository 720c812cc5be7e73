//! What an answer that counts lacks: once it is in doubt, and gone only when a second answer in a row,
//! asked for some time after the first, lacks it too. What a pod holds never goes.

use model::{EniId, Timestamp};

use super::{Node, inventory::INVENTORY_SECOND_LOOK, message::Notice};
use crate::ledger::{AddressEntry, AddressState, Change, EntryKey};

/// Answers in a row that must lack something before it is gone.
const UNSEEN_GONE: u8 = 2;

/// An answer of the cloud, for what it lacks.
pub(super) struct Missing {
    pub(super) now: Timestamp,
    /// It was asked for long enough after the last one that lacked something new.
    confirms: bool,
}

impl Node {
    /// For an answer that arrives now and was asked for at `sent`.
    pub(super) fn missing(&self, now: Timestamp, sent: Timestamp) -> Missing {
        let confirms = self
            .lacked_at
            .is_some_and(|at| at.after(INVENTORY_SECOND_LOOK) <= sent);
        Missing { now, confirms }
    }

    /// Answers in a row that lacked something, this one counted, of which `unseen` came before it.
    fn lacked(&mut self, missing: &Missing, unseen: u8) -> u8 {
        if missing.confirms && unseen > 0 {
            return unseen.saturating_add(1).min(UNSEEN_GONE);
        }
        // Nobody knows when a life before this one saw it missing.
        if unseen == 0 || self.lacked_at.is_none() {
            self.lacked_at = Some(missing.now);
        }
        unseen.max(1)
    }

    /// The clock shows `now` and showed more before.
    pub(super) fn lacked_before(&mut self, now: Timestamp) {
        self.lacked_at = self.lacked_at.map(|at| at.min(now));
    }

    pub(super) fn address_missing(&mut self, missing: &Missing, entry: AddressEntry) -> bool {
        let unseen = self.lacked(missing, entry.unseen);
        if unseen < UNSEEN_GONE {
            if entry.unseen != unseen {
                self.put_address(AddressEntry { unseen, ..entry });
            }
            return false;
        }
        match &entry.state {
            AddressState::Assigned { to } => {
                self.notice(Notice::AddressLost(entry.address, to.clone()));
                if entry.unseen != unseen {
                    self.put_address(AddressEntry { unseen, ..entry });
                }
            }
            AddressState::Fresh
            | AddressState::Idle { .. }
            | AddressState::Resting { .. }
            | AddressState::Releasing => {
                self.record(Change::Delete(EntryKey::Address(entry.address)));
            }
        }
        true
    }

    pub(super) fn eni_missing(&mut self, missing: &Missing, id: &EniId) -> bool {
        let unseen = self.progress(id).unseen;
        let unseen = self.lacked(missing, unseen);
        self.progress(id).unseen = unseen;
        if unseen < UNSEEN_GONE {
            return false;
        }
        self.forget_eni(id);
        true
    }
}
