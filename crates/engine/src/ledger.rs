//! What a node knows and must not forget: its ENIs, their addresses, who holds each address, and
//! the cloud calls whose outcome is still open.
//!
//! The ledger is a value that changes only by [`Change`]s; the same changes, written down and read
//! back, rebuild it. It refuses a change that would break an invariant, above all that an address
//! has one owner. It must never know how or where changes are stored.

mod intent;
mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use model::{AttachmentKey, EniId, Ipv4Prefix};
use serde::{Deserialize, Serialize};

pub use self::{
    intent::{CreateEni, Intent, IntentCall},
    row::{
        AddressEntry, AddressState, Attachment, EniEntry, EniStage, Entry, EntryKey, Further,
        Joint, Lent, Member, Reach, Reservation, Wire,
    },
};

/// One step of the ledger.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every change is a Put, and is gone as soon as it is written"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Writes a row, new or over the old one.
    Put(Entry),
    /// Removes a row.
    Delete(EntryKey),
}

/// A change that would break an invariant. The ledger is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two attachments would hold one address.
    #[error("address {address} is held by {holder}; {claimant} may not have it too")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who holds it.
        holder: AttachmentKey,
        /// Who wanted it.
        claimant: AttachmentKey,
    },
    /// The address would be both a pool's and a member ENI's.
    #[error("address {address} is the pool's and cannot be that of {holder}'s own ENI as well")]
    PoolAndMember {
        /// The address.
        address: IpAddr,
        /// The attachment of the trunk pod.
        holder: AttachmentKey,
    },
    /// The address would belong to an ENI that the ledger does not know.
    #[error("address {address} belongs to {eni}, which is not in the ledger")]
    NoSuchEni {
        /// The address.
        address: IpAddr,
        /// The ENI.
        eni: EniId,
    },
    /// An address would move between ENIs while somebody holds it.
    #[error("address {address} is held by {holder} and cannot move to {eni}")]
    AddressMoved {
        /// The address.
        address: IpAddr,
        /// Who holds it.
        holder: AttachmentKey,
        /// The other ENI.
        eni: EniId,
    },
    /// An ENI or address would vanish under an attachment.
    #[error("{row:?} cannot be removed: {holder} still holds it")]
    StillHeld {
        /// What was to be removed.
        row: EntryKey,
        /// Who holds it.
        holder: AttachmentKey,
    },
}

/// The ledger of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    enis: BTreeMap<EniId, EniEntry>,
    addresses: BTreeMap<IpAddr, AddressEntry>,
    #[serde(with = "crate::pairs")]
    attachments: BTreeMap<AttachmentKey, Attachment>,
    intents: BTreeMap<u64, Intent>,
}

impl Ledger {
    /// Rebuilds a ledger from its rows, in any order.
    ///
    /// # Errors
    /// When the rows contradict each other; then they are no ledger of ours.
    pub fn restore(entries: Vec<Entry>) -> Result<Self, Violation> {
        let mut ledger = Self::default();
        let (enis, rest): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| matches!(entry, Entry::Eni(_)));
        for entry in enis.into_iter().chain(rest) {
            ledger.apply(&Change::Put(entry))?;
        }
        Ok(ledger)
    }

    /// Applies one change.
    ///
    /// # Errors
    /// When an invariant would break; nothing is changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), Violation> {
        match change {
            Change::Put(Entry::Eni(eni)) => {
                self.enis.insert(eni.id.clone(), eni.clone());
            }
            Change::Put(Entry::Address(entry)) => {
                self.check_address(entry)?;
                self.addresses.insert(entry.address, entry.clone());
            }
            Change::Put(Entry::Attachment(attachment)) => {
                self.check_member(attachment)?;
                self.attachments
                    .insert(attachment.key.clone(), attachment.clone());
            }
            Change::Put(Entry::Intent(intent)) => {
                self.intents.insert(intent.id, intent.clone());
            }
            Change::Delete(key) => self.delete(key)?,
        }
        Ok(())
    }

    fn check_address(&self, entry: &AddressEntry) -> Result<(), Violation> {
        let address = entry.address;
        if !self.enis.contains_key(&entry.eni) {
            return Err(Violation::NoSuchEni {
                address,
                eni: entry.eni.clone(),
            });
        }
        let Some(known) = self.addresses.get(&address) else {
            return match self.member_with(address) {
                Some(member) => Err(Violation::PoolAndMember {
                    address,
                    holder: member.key.clone(),
                }),
                None => Ok(()),
            };
        };
        let AddressEntry {
            state: AddressState::Assigned { to: holder },
            eni,
            ..
        } = known
        else {
            return Ok(());
        };
        match &entry.state {
            AddressState::Assigned { to } if to != holder => Err(Violation::AddressTaken {
                address,
                holder: holder.clone(),
                claimant: to.clone(),
            }),
            _ if *eni != entry.eni => Err(Violation::AddressMoved {
                address,
                holder: holder.clone(),
                eni: entry.eni.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The addresses of a trunk pod are its own ENIs', and nobody else's.
    fn check_member(&self, attachment: &Attachment) -> Result<(), Violation> {
        let addresses = attachment.every_address();
        for address in addresses.filter(|_| attachment.member.is_some()) {
            if self.addresses.contains_key(&address) {
                return Err(Violation::PoolAndMember {
                    address,
                    holder: attachment.key.clone(),
                });
            }
            let other = self.member_with(address);
            if let Some(other) = other.filter(|other| other.key != attachment.key) {
                return Err(Violation::AddressTaken {
                    address,
                    holder: other.key.clone(),
                    claimant: attachment.key.clone(),
                });
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: &EntryKey) -> Result<(), Violation> {
        let holder = match key {
            EntryKey::Eni(id) => self.holder_on(id),
            EntryKey::Address(address) => self.addresses.get(address).and_then(holder_of),
            EntryKey::Attachment(_) | EntryKey::Intent(_) => None,
        };
        if let Some(holder) = holder {
            return Err(Violation::StillHeld {
                row: key.clone(),
                holder: holder.clone(),
            });
        }
        match key {
            EntryKey::Eni(id) => {
                self.enis.remove(id);
                self.addresses.retain(|_, entry| entry.eni != *id);
            }
            EntryKey::Address(address) => {
                self.addresses.remove(address);
            }
            EntryKey::Attachment(key) => {
                self.attachments.remove(key);
            }
            EntryKey::Intent(id) => {
                self.intents.remove(id);
            }
        }
        Ok(())
    }

    /// A pod whose packets leave by this ENI.
    pub fn holder_on(&self, eni: &EniId) -> Option<&AttachmentKey> {
        let by_trunk = || self.attachments.values().find(|it| it.eni == *eni);
        let by_address = self.addresses_of(eni).find_map(holder_of);
        by_address.or_else(|| by_trunk().map(|it| &it.key))
    }

    /// The trunk pod one of whose own ENIs has this address.
    pub fn member_with(&self, address: IpAddr) -> Option<&Attachment> {
        self.attachments()
            .find(|it| it.member.is_some() && it.holds(address))
    }

    /// All rows, in an order in which they can be applied.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let Self {
            enis,
            addresses,
            attachments,
            intents,
        } = self;
        let enis = enis.values().cloned().map(Entry::Eni);
        let addresses = addresses.values().cloned().map(Entry::Address);
        let attachments = attachments.values().cloned().map(Entry::Attachment);
        let intents = intents.values().cloned().map(Entry::Intent);
        enis.chain(addresses).chain(attachments).chain(intents)
    }

    /// The ENIs, by id.
    pub fn enis(&self) -> impl Iterator<Item = &EniEntry> {
        self.enis.values()
    }

    /// One ENI.
    pub fn eni(&self, id: &EniId) -> Option<&EniEntry> {
        self.enis.get(id)
    }

    /// The addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = &AddressEntry> {
        self.addresses.values()
    }

    /// One address.
    pub fn address(&self, address: IpAddr) -> Option<&AddressEntry> {
        self.addresses.get(&address)
    }

    /// The addresses of one ENI.
    pub fn addresses_of(&self, eni: &EniId) -> impl Iterator<Item = &AddressEntry> {
        self.addresses
            .values()
            .filter(move |entry| entry.eni == *eni)
    }

    /// The prefixes of one ENI, as far as any address of them is known.
    pub fn prefixes_of(&self, eni: &EniId) -> BTreeSet<Ipv4Prefix> {
        self.addresses_of(eni)
            .filter_map(|entry| entry.prefix)
            .collect()
    }

    /// Places an ENI has used up of those its instance type gives: a prefix takes one.
    pub fn places_of(&self, eni: &EniId) -> u32 {
        let single = self
            .addresses_of(eni)
            .filter(|entry| entry.prefix.is_none());
        let places = single.count() + self.prefixes_of(eni).len();
        u32::try_from(places).unwrap_or(u32::MAX)
    }

    /// The attachments, by key.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values()
    }

    /// One attachment.
    pub fn attachment(&self, key: &AttachmentKey) -> Option<&Attachment> {
        self.attachments.get(key)
    }

    /// The open calls, oldest first.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.values()
    }

    /// One open call.
    pub fn intent(&self, id: u64) -> Option<&Intent> {
        self.intents.get(&id)
    }
}

fn holder_of(entry: &AddressEntry) -> Option<&AttachmentKey> {
    match &entry.state {
        AddressState::Assigned { to } => Some(to),
        AddressState::Fresh
        | AddressState::Idle { .. }
        | AddressState::Resting { .. }
        | AddressState::Releasing => None,
    }
}
