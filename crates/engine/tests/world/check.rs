//! What must hold after every step, and at rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use engine::ledger::{AddressState, IntentCall};
use model::{AttachmentKey, net::Rule};

use super::{Asked, World};

impl World {
    pub(crate) fn check(&self) {
        let mut owners = BTreeMap::new();
        for (key, addresses) in &self.given {
            for address in addresses {
                let other = owners.insert(*address, key);
                assert!(
                    other.is_none(),
                    "{address} was given to {key} and {other:?}"
                );
            }
        }
        for key in self.given.keys() {
            let leaving = self
                .asked
                .values()
                .any(|asked| matches!(asked, Asked::Del(pod) if self.key(*pod) == *key));
            let known = self.node.ledger().attachment(key).is_some();
            assert!(
                known || leaving || self.lost.contains(key),
                "{key} lives and the ledger forgot it"
            );
        }
        let ledger = self.node.ledger();
        for eni in ledger.enis() {
            let open = ledger.intents().map(|intent| &intent.call);
            let asked = open.filter(|call| call.eni() == Some(&eni.id));
            let places = ledger.places_of(&eni.id) + asked.map(IntentCall::places).sum::<u32>();
            let most = self.config.limits.ipv4_per_eni;
            // The node's own ENI carries a block that the cloud does not count.
            let counted = self.config.policy.block.is_none();
            assert!(
                !counted || places <= most,
                "{places} places of {} are taken",
                eni.id
            );
        }
        for attachment in self.node.ledger().attachments() {
            for address in attachment.every_address() {
                let known = self.node.ledger().address(address);
                let state = known.map(|entry| &entry.state);
                if attachment.member.is_some() {
                    assert!(state.is_none(), "{address} is also the pool's: {state:?}");
                    continue;
                }
                let held =
                    matches!(state, Some(AddressState::Assigned { to }) if *to == attachment.key);
                assert!(held, "{address} of {} is {state:?}", attachment.key);
            }
        }
    }

    pub(crate) fn check_at_rest(&self) {
        self.check();
        let ledger = self.node.ledger();
        assert_eq!(self.disk, *ledger, "what is in memory is on disk");
        assert_eq!(ledger.intents().count(), 0, "no call is open");
        assert_eq!(self.view().waiting, 0);
        let ours: BTreeMap<_, BTreeSet<IpAddr>> = ledger
            .enis()
            .map(|eni| {
                let addresses = ledger.addresses_of(&eni.id).map(|entry| entry.address);
                (eni.id.clone(), addresses.collect())
            })
            .collect();
        assert_eq!(
            ours,
            self.cloud.secondary_enis(),
            "the ledger agrees with the cloud"
        );
        let attached: BTreeSet<_> = ledger
            .attachments()
            .map(|attachment| &attachment.key)
            .collect();
        let not_lost = |key: &&AttachmentKey| !self.lost.contains(*key);
        assert_eq!(
            attached,
            self.kernel.pods().filter(not_lost).collect(),
            "the ledger agrees with the kernel"
        );
        assert_eq!(
            attached,
            self.given.keys().filter(not_lost).collect(),
            "the ledger agrees with the runtime"
        );
        for attachment in ledger.attachments() {
            let of = |rule: &Rule| rule.from.or(rule.to).map(|net| net.addr());
            for own in attachment
                .every_address()
                .filter(|_| !attachment.is_whole() && attachment.joint.is_veth())
            {
                let ruled = self
                    .kernel
                    .rules
                    .iter()
                    .filter(|rule| of(rule) == Some(own));
                assert!(ruled.count() >= 2, "rules of {own} are missing");
            }
        }
        assert_eq!(self.kernel.stray(), BTreeSet::new(), "routes to nobody");
        let living: BTreeSet<IpAddr> = self.kernel.routed();
        for rule in &self.kernel.rules {
            let of = rule.from.or(rule.to).unwrap().addr();
            assert!(living.contains(&of), "{rule:?} belongs to nobody");
        }
    }
}
