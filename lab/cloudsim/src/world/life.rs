//! The states of an ENI: attaching, in use, detaching, gone.

use model::{EniId, EniKind, EniStatus, InstanceId, InstanceLimits, Timestamp};

use super::{Due, World, members::rides_on};
use crate::{
    effect::Effect,
    refusal::{Outcome, Refusal},
    state::{Eni, kind_word, status_word},
};

impl World {
    /// Starts to attach an ENI to an instance, or to a trunk of that instance.
    pub(crate) fn attach(
        &mut self,
        now: Timestamp,
        eni: &EniId,
        instance: &InstanceId,
        trunk: Option<&EniId>,
    ) -> Outcome<()> {
        let (eni, host) = (self.eni(eni.as_str())?, self.instance(instance.as_str())?);
        if !matches!(eni.kind, EniKind::Secondary | EniKind::Trunk) {
            return Err(Refusal::eni_kind(&eni.id, kind_word(eni.kind)));
        }
        wants(eni, EniStatus::Available)?;
        if eni.zone != host.zone {
            return Err(Refusal::zone(&eni.zone, &host.zone));
        }
        let Some(limits) = self.type_of(instance).map(|t| t.limits) else {
            return Err(Refusal::no_instance(instance));
        };
        if eni.places() > limits.ipv4_per_eni as usize {
            return Err(Refusal::too_many_addresses(&eni.id, limits.ipv4_per_eni));
        }
        let ride = match trunk {
            Some(trunk) => Some(self.ride(eni, instance, trunk, &limits)?),
            None => {
                self.place(eni, instance, &limits)?;
                None
            }
        };
        let id = eni.id.clone();
        self.change(now, &id, |eni| {
            eni.status = EniStatus::Attaching;
            eni.instance = Some(instance.clone());
            if ride.is_some() {
                eni.kind = EniKind::Member;
            }
            eni.ride = ride;
        });
        self.later(now.after(self.config.timing.attach), Due::Attached(id));
        self.advance(now);
        Ok(())
    }

    /// Whether an instance can take an ENI with a link of its own.
    fn place(&self, eni: &Eni, instance: &InstanceId, limits: &InstanceLimits) -> Outcome<()> {
        let linked = || self.enis_of(instance).filter(|other| other.ride.is_none());
        if linked().count() >= limits.enis as usize {
            return Err(Refusal::too_many_on_instance(instance, limits.enis));
        }
        // Unconfirmed: one trunk an instance, and only where the type offers trunks.
        let second_trunk = || linked().any(|other| other.kind == EniKind::Trunk);
        if eni.kind == EniKind::Trunk && (!limits.trunk || second_trunk()) {
            return Err(Refusal::eni_kind(&eni.id, kind_word(eni.kind)));
        }
        Ok(())
    }

    pub(crate) fn detach(
        &mut self,
        now: Timestamp,
        eni: &EniId,
        instance: &InstanceId,
        trunk: Option<&EniId>,
    ) -> Outcome<()> {
        let (eni, host) = (self.eni(eni.as_str())?, self.instance(instance.as_str())?);
        if eni.kind == EniKind::Primary {
            return Err(Refusal::detach_primary(&eni.id));
        }
        wants(eni, EniStatus::InUse)?;
        if eni.instance.as_ref() != Some(&host.id) {
            return Err(Refusal::invalid(
                "InstanceId",
                "the instance the ENI is attached to",
            ));
        }
        rides_on(eni, trunk)?;
        let id = eni.id.clone();
        self.change(now, &id, |eni| eni.status = EniStatus::Detaching);
        self.later(now.after(self.config.timing.detach), Due::Detached(id));
        self.advance(now);
        Ok(())
    }

    pub(crate) fn delete(&mut self, now: Timestamp, eni: &EniId) -> Outcome<()> {
        let eni = self.eni(eni.as_str())?;
        if eni.kind == EniKind::Primary {
            return Err(Refusal::eni_kind(&eni.id, kind_word(eni.kind)));
        }
        wants(eni, EniStatus::Available)?;
        let id = eni.id.clone();
        self.change(now, &id, |eni| eni.status = EniStatus::Deleting);
        self.later(now.after(self.config.timing.delete), Due::Deleted(id));
        self.advance(now);
        Ok(())
    }

    /// Takes an ENI off its instance, whatever it was doing; its pending transition is void. A trunk's
    /// members go first.
    pub(crate) fn unplug(&mut self, now: Timestamp, id: &EniId) {
        for member in self.members_of(id) {
            self.unplug(now, &member);
        }
        self.due.retain(|_, due| match due {
            Due::Attached(eni) | Due::Detached(eni) | Due::Deleted(eni) => eni != id,
            Due::RouteMade(_) | Due::RouteDeleted(_) => true,
        });
        let Some(eni) = self.enis.get(id) else { return };
        let plugged = matches!(eni.status, EniStatus::InUse | EniStatus::Detaching);
        if let Some(instance) = eni.instance.clone().filter(|_| plugged) {
            let eni = id.clone();
            self.effects.push_back(Effect::Unplug { eni, instance });
        }
        self.change(now, id, |eni| {
            eni.status = EniStatus::Available;
            eni.instance = None;
            if eni.ride.take().is_some() {
                eni.kind = EniKind::Secondary;
            }
        });
    }

    /// Ends an ENI that is attached to nothing and returns its addresses.
    pub(crate) fn remove(&mut self, now: Timestamp, id: &EniId) {
        let Some(eni) = self.enis.remove(id) else {
            return;
        };
        for (address, _) in eni.addresses() {
            self.give_back(&eni.vswitch, address, id);
        }
        for prefix in &eni.prefixes {
            self.give_prefix_back(&eni.vswitch, *prefix, id);
        }
        self.history.record(now, id, None);
    }
}

pub(super) fn wants(eni: &Eni, wanted: EniStatus) -> Outcome<()> {
    if eni.status == wanted {
        return Ok(());
    }
    Err(Refusal::eni_state(
        &eni.id,
        status_word(eni.status),
        status_word(wanted),
    ))
}
