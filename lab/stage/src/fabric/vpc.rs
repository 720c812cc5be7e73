//! Who is plugged where and who owns what: the VPC's memory, and its agreement with the kernel.
//!
//! Lives on the thread inside the namespace. Ownership and routes are kept for ENIs that are not
//! plugged too, because in the cloud they belong to the ENI and outlive every attachment.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use aya::programs::tc::SchedClassifierLinkId;
use cloudsim::SecurityGroup;
use ipnet::IpNet;
use model::{InterfaceName, SecurityGroupId};

use super::{
    FabricError, Member, Port, PortCounters,
    groups::Numbers,
    layout::{self, Place, PortId},
    links::Links,
    program::Program,
};

/// VLAN ids a member may have: 0 means untagged and 4095 is reserved (IEEE 802.1Q, 9.6).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// The VPC behind its handle.
pub(super) struct Vpc {
    program: Program,
    links: Links,
    plugged: BTreeMap<String, Plugged>,
    owners: BTreeMap<IpAddr, String>,
    routes: BTreeMap<IpNet, String>,
    groups: Numbers,
    /// Number of the next near end; never reused, so that a name in a capture means one pair.
    next_near: u32,
}

struct Plugged {
    place: Place,
    wire: Wire,
    source_dest_check: bool,
    groups: Vec<u16>,
}

impl Plugged {
    fn settings(&self) -> layout::SettingsBytes {
        layout::settings(self.source_dest_check, &self.groups)
    }
}

/// What carries an ENI's packets.
enum Wire {
    /// A veth pair of its own; the filter is taken out when it is taken off.
    Pair {
        near: String,
        filter: Option<SchedClassifierLinkId>,
    },
    /// The pair of this trunk ENI.
    Trunk(String),
}

impl Vpc {
    pub(super) fn new(program: Program, links: Links) -> Self {
        Self {
            program,
            links,
            plugged: BTreeMap::new(),
            owners: BTreeMap::new(),
            routes: BTreeMap::new(),
            groups: Numbers::default(),
            next_near: 0,
        }
    }

    pub(super) fn plug(&mut self, port: &Port, target: &OwnedFd) -> Result<(), FabricError> {
        let eni = &port.eni;
        self.require_unplugged(eni)?;
        InterfaceName::new(port.link.as_str()).map_err(|source| FabricError::LinkName {
            eni: eni.clone(),
            source,
        })?;
        let near = format!("p{}", self.next_near);
        self.next_near += 1;
        let ifindex = self
            .links
            .add(&near, &port.link, port.mac, target.as_fd())
            .inspect_err(|_| self.discard(&near))?;
        let plugged = Plugged {
            place: Place {
                port: PortId { ifindex, vlan: 0 },
                mac: port.mac,
            },
            wire: Wire::Pair {
                near: near.clone(),
                filter: None,
            },
            source_dest_check: port.source_dest_check,
            groups: self.numbers(&port.groups),
        };
        self.plugged.insert(eni.clone(), plugged);
        self.connect(eni)
            .and_then(|()| self.open(eni, &near))
            .inspect_err(|_| self.roll_back(eni))
    }

    pub(super) fn plug_member(&mut self, member: &Member) -> Result<(), FabricError> {
        let eni = &member.eni;
        self.require_unplugged(eni)?;
        let Plugged { place, wire, .. } = self.port(&member.trunk)?;
        let port = PortId {
            vlan: member.vlan,
            ..place.port
        };
        let taken = self.plugged.values().any(|other| other.place.port == port);
        if taken || !VLANS.contains(&member.vlan) || matches!(wire, Wire::Trunk(_)) {
            return Err(FabricError::Vlan {
                eni: eni.clone(),
                trunk: member.trunk.clone(),
                vlan: member.vlan,
            });
        }
        let plugged = Plugged {
            place: Place {
                port,
                mac: member.mac,
            },
            wire: Wire::Trunk(member.trunk.clone()),
            source_dest_check: member.source_dest_check,
            groups: self.numbers(&member.groups),
        };
        self.plugged.insert(eni.clone(), plugged);
        self.connect(eni).inspect_err(|_| self.roll_back(eni))
    }

    /// Takes `eni` off its wire, and with a trunk its members. What it owns stays remembered. May
    /// be called again after a failure: every step leaves what is gone alone.
    pub(super) fn unplug(&mut self, eni: &str) -> Result<(), FabricError> {
        let port = self.port(eni)?.place.port;
        for member in self.members(eni) {
            self.unplug(&member)?;
        }
        for (address, _) in self.owners.iter().filter(|(_, owner)| *owner == eni) {
            self.program.clear_owner(*address)?;
        }
        for (net, _) in self.routes.iter().filter(|(_, next)| *next == eni) {
            self.program.clear_route(*net)?;
        }
        if let Some(Wire::Pair { near, filter }) =
            self.plugged.get_mut(eni).map(|plugged| &mut plugged.wire)
        {
            if let Some(filter) = filter.take() {
                self.program.detach(filter);
            }
            self.links.remove(near)?;
        }
        self.program.remove_port(port)?;
        self.plugged.remove(eni);
        Ok(())
    }

    pub(super) fn is_cut(&self, eni: &str) -> bool {
        match self.plugged.get(eni).map(|plugged| &plugged.wire) {
            Some(Wire::Pair { near, .. }) => !self.links.exists(near),
            Some(Wire::Trunk(_)) | None => false,
        }
    }

    pub(super) fn own(&mut self, address: IpAddr, eni: &str) -> Result<(), FabricError> {
        if let Some(owner) = self.owners.get(&address).filter(|owner| *owner != eni) {
            return Err(FabricError::Owned {
                address,
                eni: eni.to_owned(),
                owner: owner.clone(),
            });
        }
        if let Some(plugged) = self.plugged.get(eni) {
            self.program.set_owner(address, plugged.place)?;
        }
        self.owners.insert(address, eni.to_owned());
        Ok(())
    }

    pub(super) fn disown(&mut self, address: IpAddr, eni: &str) -> Result<(), FabricError> {
        if self.owners.get(&address).is_some_and(|owner| owner == eni) {
            self.program.clear_owner(address)?;
            self.owners.remove(&address);
        }
        Ok(())
    }

    pub(super) fn route(&mut self, net: IpNet, eni: &str) -> Result<(), FabricError> {
        let net = net.trunc();
        match self.plugged.get(eni) {
            Some(plugged) => self.program.set_route(net, plugged.place)?,
            None => self.program.clear_route(net)?,
        }
        self.routes.insert(net, eni.to_owned());
        Ok(())
    }

    pub(super) fn unroute(&mut self, net: IpNet) -> Result<(), FabricError> {
        let net = net.trunc();
        self.program.clear_route(net)?;
        self.routes.remove(&net);
        Ok(())
    }

    pub(super) fn source_dest_check(&mut self, eni: &str, on: bool) -> Result<(), FabricError> {
        self.adjust(eni, |plugged| plugged.source_dest_check = on)
    }

    pub(super) fn join(
        &mut self,
        eni: &str,
        groups: &[SecurityGroupId],
    ) -> Result<(), FabricError> {
        let groups = self.numbers(groups);
        self.adjust(eni, |plugged| plugged.groups = groups)
    }

    pub(super) fn set_group(&mut self, group: &SecurityGroup) -> Result<(), FabricError> {
        let encoded = self.groups.encode(group);
        self.program.set_group(self.groups.of(&group.id), &encoded)
    }

    pub(super) fn remove_group(&mut self, group: &SecurityGroupId) -> Result<(), FabricError> {
        self.program.clear_group(self.groups.of(group))
    }

    fn numbers(&mut self, groups: &[SecurityGroupId]) -> Vec<u16> {
        groups.iter().map(|group| self.groups.of(group)).collect()
    }

    /// Changes what the program asks of packets of `eni`.
    fn adjust(&mut self, eni: &str, change: impl FnOnce(&mut Plugged)) -> Result<(), FabricError> {
        let plugged = self.plugged.get_mut(eni);
        let plugged = plugged.ok_or_else(|| FabricError::NotPlugged { eni: eni.into() })?;
        change(plugged);
        self.program.set(plugged.place.port, plugged.settings())
    }

    pub(super) fn counters(&self) -> Result<BTreeMap<String, PortCounters>, FabricError> {
        self.plugged
            .iter()
            .map(|(eni, plugged)| {
                let counters = self.program.counters(plugged.place.port)?;
                Ok((eni.clone(), counters))
            })
            .collect()
    }

    pub(super) fn owners(&self) -> BTreeMap<IpAddr, String> {
        self.owners.clone()
    }

    fn port(&self, eni: &str) -> Result<&Plugged, FabricError> {
        self.plugged
            .get(eni)
            .ok_or_else(|| FabricError::NotPlugged { eni: eni.into() })
    }

    fn require_unplugged(&self, eni: &str) -> Result<(), FabricError> {
        if self.plugged.contains_key(eni) {
            return Err(FabricError::AlreadyPlugged { eni: eni.into() });
        }
        Ok(())
    }

    fn members(&self, trunk: &str) -> Vec<String> {
        self.plugged
            .iter()
            .filter(|(_, plugged)| matches!(&plugged.wire, Wire::Trunk(on) if on == trunk))
            .map(|(eni, _)| eni.clone())
            .collect()
    }

    /// Tells the program about `eni` and everything it owns.
    fn connect(&mut self, eni: &str) -> Result<(), FabricError> {
        let plugged = self.port(eni)?;
        let (place, settings) = (plugged.place, plugged.settings());
        self.program.add_port(place.port, settings)?;
        for (address, _) in self.owners.iter().filter(|(_, owner)| *owner == eni) {
            self.program.set_owner(*address, place)?;
        }
        for (net, _) in self.routes.iter().filter(|(_, next)| *next == eni) {
            self.program.set_route(*net, place)?;
        }
        Ok(())
    }

    /// Lets packets in: the program first, so that no frame ever meets the namespace's own stack.
    fn open(&mut self, eni: &str, near: &str) -> Result<(), FabricError> {
        let attached = self.program.attach(eni, near)?;
        if let Some(Wire::Pair { filter, .. }) =
            self.plugged.get_mut(eni).map(|plugged| &mut plugged.wire)
        {
            *filter = Some(attached);
        }
        self.links.up(near, eni)
    }

    fn roll_back(&mut self, eni: &str) {
        if let Err(error) = self.unplug(eni) {
            tracing::warn!(eni, %error, "could not undo a plug that failed");
        }
    }

    fn discard(&self, near: &str) {
        if let Err(error) = self.links.remove(near) {
            tracing::warn!(link = near, %error, "could not remove a link that was not finished");
        }
    }
}

impl Drop for Vpc {
    /// The links would die with the namespace, but some time later; whoever drops the VPC may look
    /// at the nodes at once.
    fn drop(&mut self) {
        let any = self.plugged.values().any(
            |plugged| matches!(&plugged.wire, Wire::Pair { near, .. } if self.links.exists(near)),
        );
        if any && let Err(error) = self.links.remove_all() {
            tracing::warn!(%error, "the VPC's links were left to the kernel");
        }
    }
}
