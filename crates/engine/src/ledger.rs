//! What a node knows and must not forget: its ENIs, their addresses, who holds each address, and
//! the cloud calls whose outcome is still open.
//!
//! The ledger is a value that changes only by [`Change`]s; the same changes, written down and read
//! back, rebuild it. It refuses a change that would break an invariant, above all that an address
//! has one owner. It must never know how or where changes are stored.

mod intent;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use model::{
    AttachmentKey, DualStack, EniId, InterfaceName, Ipv4Prefix, Mac, PodKey, PodUid, Timestamp,
    VSwitchId,
};
use serde::{Deserialize, Serialize};

pub use self::intent::{CreateEni, Intent, IntentCall};

/// How far an ENI of ours has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EniStage {
    /// The cloud made it; it is attached to nothing.
    Created,
    /// An attach was asked for.
    Attaching,
    /// It is attached to this node: its link is here, or the cloud says so.
    Attached,
    /// It is to go: a detach is due or under way.
    Detaching,
    /// It is off the node; its deletion is due or under way.
    Deleting,
}

/// An ENI of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniEntry {
    /// Its id.
    pub id: EniId,
    /// Its MAC, by which its link is found.
    pub mac: Mac,
    /// Where its addresses come from.
    pub vswitch: VSwitchId,
    /// How far it has come.
    pub stage: EniStage,
    /// Whether it is the trunk, which carries the ENIs of trunk pods beside addresses of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trunk: bool,
    /// The vSwitch's gateways, once metadata told them.
    pub gateway: DualStack<IpAddr>,
    /// The vSwitch's blocks, once metadata told them.
    pub subnet: DualStack<IpNet>,
}

/// What an address is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressState {
    /// The cloud assigned it; the node has not been seen to be able to use it.
    Fresh,
    /// Free for the next pod since then.
    Idle {
        /// When it became free.
        since: Timestamp,
    },
    /// Held by an attachment.
    Assigned {
        /// The attachment.
        to: AttachmentKey,
    },
    /// Given back and resting, so that nobody still talks to its last pod.
    Resting {
        /// When it is free again.
        until: Timestamp,
    },
    /// Being handed back to the cloud.
    Releasing,
}

/// An address of an ENI of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressEntry {
    /// The address.
    pub address: IpAddr,
    /// Its ENI.
    pub eni: EniId,
    /// Whether it is the ENI's primary address, which the cloud takes back only with the ENI.
    pub primary: bool,
    /// The prefix it came in, if it did: the cloud knows it, and takes it back, only as that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Ipv4Prefix>,
    /// What it is doing.
    pub state: AddressState,
    /// How many trustworthy answers of the cloud in a row did not list it. It is handed out only
    /// while this is zero.
    pub unseen: u8,
    /// The pod it waits for, if its last one's name comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reservation>,
}

/// An address that waits for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The pod.
    pub pod: PodKey,
    /// Until when it waits.
    pub until: Timestamp,
}

/// A sandbox's interface and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Sandbox and interface.
    pub key: AttachmentKey,
    /// The pod.
    pub pod: PodKey,
    /// The pod's UID, when the runtime passed it.
    pub uid: Option<PodUid>,
    /// Path of the network namespace at the time, for the CNI result only.
    pub netns: String,
    /// Its addresses.
    pub addresses: DualStack<IpAddr>,
    /// The ENI they belong to.
    pub eni: EniId,
    /// Name of the veth end on the node.
    pub host_link: InterfaceName,
    /// MTU at the time.
    pub mtu: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Whether the runtime has since asked for another sandbox of the pod. It stays true when that one
    /// is gone.
    #[serde(default)]
    pub superseded: bool,
    /// Whether its addresses wait for the pod when it is gone.
    #[serde(default)]
    pub sticky: bool,
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// An ENI.
    Eni(EniEntry),
    /// An address.
    Address(AddressEntry),
    /// An attachment.
    Attachment(Attachment),
    /// An open call.
    Intent(Intent),
}

/// The identity of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntryKey {
    /// An ENI.
    Eni(EniId),
    /// An address.
    Address(IpAddr),
    /// An attachment.
    Attachment(AttachmentKey),
    /// An open call.
    Intent(u64),
}

impl Entry {
    /// The row's identity.
    pub fn key(&self) -> EntryKey {
        match self {
            Entry::Eni(eni) => EntryKey::Eni(eni.id.clone()),
            Entry::Address(address) => EntryKey::Address(address.address),
            Entry::Attachment(attachment) => EntryKey::Attachment(attachment.key.clone()),
            Entry::Intent(intent) => EntryKey::Intent(intent.id),
        }
    }
}

/// One step of the ledger.
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
        let Some(AddressEntry {
            state: AddressState::Assigned { to: holder },
            eni,
            ..
        }) = self.addresses.get(&address)
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

    fn holder_on(&self, eni: &EniId) -> Option<&AttachmentKey> {
        self.addresses_of(eni).find_map(holder_of)
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
