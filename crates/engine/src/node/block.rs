//! Mode VPC: pods get addresses of the node's own block (`spec.podCIDR`), which the VPC's route table leads
//! to the node's own ENI. Nothing is asked of the cloud for a pod.
//!
//! The ledger is the one of the other mode: the node's own ENI is a row of it, the only one, and each address
//! that ever served a pod is one, with its owner, its rest and its reservation. Addresses that never served
//! are no rows; one is made when a pod finds nothing idle. Must not know: routes, the cloud.

use std::net::IpAddr;

use model::{DualStack, EniId, Family, Timestamp, VSwitchId};
use serde::{Deserialize, Serialize};

use super::{Node, message::Action};
use crate::ledger::{AddressEntry, AddressState, Change, EniEntry, EniStage, Entry, EntryKey};

/// The node's own addresses for pods, and the ENI that carries them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodBlock {
    /// The block. Its first and its last address serve nobody: they name the network and everybody in it.
    pub cidr: ipnet::Ipv4Net,
    /// The node's own ENI.
    pub eni: EniId,
    /// The vSwitch of that, for people.
    pub vswitch: VSwitchId,
}

impl Node {
    /// What is due on a node of this mode.
    pub(super) fn settle_block(&mut self, now: Timestamp) {
        self.expire(now);
        self.serve_waiting(now);
        self.retry_removals(now);
        if !self.links.contains_key(&self.config.primary_mac) {
            self.links_wanted.want();
        }
        if self.links_wanted.take_due(now) {
            self.out.emit(Action::ReadLinks);
        }
        self.drive_kernel_look(now);
        self.drive_heal(now);
    }

    /// Whether this is the node's own ENI, which came with the instance and is never detached.
    pub(super) fn is_own(&self, eni: &EniId) -> bool {
        let entry = self.ledger.eni(eni);
        entry.is_some_and(|entry| entry.mac == self.config.primary_mac)
    }

    /// Whether pods may use addresses of the node's own ENI: only in this mode, and by its link.
    pub(super) fn own_usable(&self) -> bool {
        self.config.policy.block.is_some() && self.links.contains_key(&self.config.primary_mac)
    }

    /// Makes sure that the pods that wait find an address, as far as the block has one.
    pub(super) fn draw(&mut self, now: Timestamp) {
        let Some(block) = self.config.policy.block.clone() else {
            return;
        };
        self.keep_block(&block);
        let waiting = u32::try_from(self.waiting_count()).unwrap_or(u32::MAX);
        let missing = waiting.saturating_sub(self.idle(now)) as usize;
        let unused = block.cidr.hosts().map(IpAddr::V4).filter(|address| {
            self.ledger.address(*address).is_none() && !self.is_occupied(*address)
        });
        for address in unused.take(missing).collect::<Vec<_>>() {
            self.put_address(AddressEntry {
                address,
                eni: block.eni.clone(),
                primary: false,
                prefix: None,
                // Free for ever so far: it goes before any that a peer may remember.
                state: AddressState::Idle {
                    since: Timestamp::EPOCH,
                },
                unseen: 0,
                reserved: None,
            });
        }
    }

    /// Makes the ledger's row of the own ENI what it should be, and drops free addresses of another block:
    /// a node that was registered anew may have got another.
    fn keep_block(&mut self, block: &PodBlock) {
        let wanted = EniEntry {
            id: block.eni.clone(),
            mac: self.config.primary_mac,
            vswitch: block.vswitch.clone(),
            stage: EniStage::Attached,
            trunk: false,
            gateway: DualStack::default(),
            subnet: DualStack::only(Family::V4, block.cidr.into()),
        };
        if self.ledger.eni(&wanted.id) != Some(&wanted) {
            self.record(Change::Put(Entry::Eni(wanted)));
        }
        let strays = self.ledger.addresses_of(&block.eni).filter(|entry| {
            let held = matches!(entry.state, AddressState::Assigned { .. });
            !held && !self.in_block(entry.address)
        });
        for address in strays.map(|entry| entry.address).collect::<Vec<_>>() {
            self.record(Change::Delete(EntryKey::Address(address)));
        }
    }

    /// Whether an address is one that the route table leads here.
    pub(super) fn in_block(&self, address: IpAddr) -> bool {
        let block = self.config.policy.block.as_ref();
        match (block, address) {
            (Some(block), IpAddr::V4(address)) => block.cidr.contains(&address),
            _ => false,
        }
    }

    /// Forgets the own ENI on a node of another mode, once no pod holds an address of it.
    pub(super) fn leave_block(&mut self) {
        let own = self
            .ledger
            .enis()
            .find(|eni| eni.mac == self.config.primary_mac);
        if let Some(id) = own.map(|eni| eni.id.clone())
            && self.ledger.holder_on(&id).is_none()
        {
            self.record(Change::Delete(EntryKey::Eni(id)));
        }
    }

    /// Why a pod has no address of the block right now, in one sentence.
    pub(super) fn block_lacks(&self) -> Option<String> {
        let block = self.config.policy.block.as_ref()?;
        if !self.own_usable() {
            let text = format!("the link of the node's own ENI {} is not there", block.eni);
            return Some(text);
        }
        let count = block.cidr.hosts().count();
        Some(format!(
            "all {count} addresses of the node's podCIDR {} are in use or rest",
            block.cidr
        ))
    }
}
