//! The region's orders carried out: links into the right nodes, owners into the fabric.
//!
//! An order that fails is kept for `status`: a lab whose wires are not the region's proves nothing.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use cloudsim::Effect;
use model::{EniId, InstanceId};
use tokio::sync::watch;

use crate::fabric::{Fabric, FabricError, Member, Port};

/// Failures kept; the first ones tell what went wrong.
const FAILURES_MAX: usize = 20;

/// The fabric and who is plugged where.
pub(super) struct Wiring {
    fabric: Fabric,
    state: Mutex<State>,
    /// Held while a link is made or removed.
    turn: Mutex<()>,
    /// Counts the orders carried out, to wait on.
    done: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    instances: BTreeMap<InstanceId, OwnedFd>,
    links: BTreeMap<EniId, Link>,
    failures: Vec<String>,
}

/// Where an ENI appears.
#[derive(Clone)]
pub(super) struct Link {
    instance: InstanceId,
    /// Its name on the node when it was plugged.
    pub(super) name: String,
    port: Port,
}

impl Wiring {
    pub(super) fn new(fabric: Fabric) -> Self {
        Self {
            fabric,
            state: Mutex::default(),
            turn: Mutex::default(),
            done: watch::Sender::new(0),
        }
    }

    pub(super) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// From now on ENIs of `instance` are plugged into `netns`.
    pub(super) fn place(&self, instance: InstanceId, netns: OwnedFd) {
        self.lock().instances.insert(instance, netns);
    }

    /// The node of `instance` is gone; so are its links.
    pub(super) fn displace(&self, instance: &InstanceId) {
        self.lock().instances.remove(instance);
    }

    /// ENIs that have a link, with its name.
    pub(super) fn links(&self) -> BTreeMap<EniId, Link> {
        self.lock().links.clone()
    }

    /// What could not be carried out.
    pub(super) fn failures(&self) -> Vec<String> {
        self.lock().failures.clone()
    }

    /// Waits until `eni` has a link.
    ///
    /// # Errors
    /// When it has none within `bound`.
    pub(super) async fn plugged(&self, eni: &EniId, bound: Duration) -> Result<()> {
        let mut done = self.done.subscribe();
        let there = done.wait_for(|_| self.lock().links.contains_key(eni));
        match tokio::time::timeout(bound, there).await {
            Ok(_) => Ok(()),
            Err(_) => bail!(
                "{eni} was not plugged within {bound:?}: {:?}",
                self.failures()
            ),
        }
    }

    /// Carries out one order. Blocks for the length of a few `ip` commands.
    pub(super) fn apply(&self, effect: &Effect) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.try_apply(effect) {
            tracing::error!(
                ?effect,
                error = format!("{error:#}"),
                "order not carried out"
            );
            let mut state = self.lock();
            if state.failures.len() < FAILURES_MAX {
                state.failures.push(format!("{error:#}"));
            }
        }
        self.done.send_modify(|done| *done += 1);
    }

    /// Plugs again what died with a pod's namespace and is still attached: a real device would have come
    /// back to the node.
    pub(super) fn mend(&self) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for (eni, link) in self.links() {
            if !self.fabric.is_cut(eni.as_str())? {
                continue;
            }
            // The node is gone, and its links with it.
            let Ok(netns) = self.netns(&link.instance) else {
                continue;
            };
            tracing::info!(%eni, link = link.name, "its namespace ended; it is back on its node");
            self.fabric.unplug(eni.as_str())?;
            self.fabric.plug(link.port, netns)?;
        }
        Ok(())
    }

    fn try_apply(&self, effect: &Effect) -> Result<()> {
        match effect {
            Effect::Plug {
                eni,
                mac,
                instance,
                source_dest_check,
                groups,
                ..
            } => {
                let netns = self.netns(instance)?;
                let name = free_name(&self.lock(), instance);
                let port = Port {
                    eni: eni.to_string(),
                    mac: *mac,
                    link: name.clone(),
                    source_dest_check: *source_dest_check,
                    groups: groups.clone(),
                };
                self.fabric.plug(port.clone(), netns)?;
                let instance = instance.clone();
                let link = Link {
                    instance,
                    name,
                    port,
                };
                self.lock().links.insert(eni.clone(), link);
                Ok(())
            }
            Effect::PlugMember {
                eni,
                mac,
                ride,
                source_dest_check,
                groups,
                ..
            } => Ok(self.fabric.plug_member(Member {
                eni: eni.to_string(),
                mac: *mac,
                trunk: ride.trunk.to_string(),
                vlan: ride.vlan,
                source_dest_check: *source_dest_check,
                groups: groups.clone(),
            })?),
            Effect::Unplug { eni, .. } => {
                self.lock().links.remove(eni);
                Ok(self.fabric.unplug(eni.as_str())?)
            }
            Effect::Own { address, eni } => Ok(self.fabric.own(*address, eni.as_str())?),
            Effect::Disown { address, eni } => Ok(self.fabric.disown(*address, eni.as_str())?),
            Effect::SourceDestCheck { eni, enabled } => {
                if_plugged(self.fabric.source_dest_check(eni.as_str(), *enabled))
            }
            Effect::Join { eni, groups } => if_plugged(self.fabric.join(eni.as_str(), groups)),
            Effect::Group(group) => Ok(self.fabric.set_group(group.clone())?),
            Effect::GroupGone(group) => Ok(self.fabric.remove_group(group)?),
            Effect::Route { destination, eni } => {
                Ok(self.fabric.route(*destination, eni.as_str())?)
            }
            Effect::Unroute { destination } => Ok(self.fabric.unroute(*destination)?),
        }
    }

    fn netns(&self, instance: &InstanceId) -> Result<OwnedFd> {
        let state = self.lock();
        let netns = state.instances.get(instance);
        let netns = netns.ok_or_else(|| anyhow!("no node runs as {instance}"))?;
        netns.try_clone().context("cannot copy a descriptor")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of a change to an ENI: one that is not plugged brings it along with its next plug.
fn if_plugged(outcome: Result<(), FabricError>) -> Result<()> {
    match outcome {
        Err(FabricError::NotPlugged { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// The lowest free name, as a node's kernel and its udev give them: the primary ENI, which comes
/// first and never goes, is eth0.
fn free_name(state: &State, instance: &InstanceId) -> String {
    let taken = |name: &str| {
        let mut links = state.links.values();
        links.any(|link| link.instance == *instance && link.name == name)
    };
    let mut names = (0u32..).map(|number| format!("eth{number}"));
    names
        .find(|name| !taken(name))
        .expect("there are more names than ENIs")
}
