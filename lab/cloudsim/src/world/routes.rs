//! The VPC's system route table: its custom entries, made and deleted one at a time.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use model::{InstanceId, RouteEntryId, Timestamp};

use super::{Due, World};
use crate::{
    effect::Effect,
    refusal::{Outcome, Refusal},
};

/// The id of the only table of the only VPC.
pub(crate) const ROUTE_TABLE: &str = "vtb-bp1lab";

/// Addresses of the cloud's own services, which no entry may lead elsewhere (VPC API, CreateRouteEntry).
const SERVICES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);

/// Where an entry is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteStatus {
    Pending,
    Available,
    /// Being deleted; the API shows that as Pending too (unconfirmed).
    Leaving,
}

/// A custom entry.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) id: RouteEntryId,
    pub(crate) destination: Ipv4Net,
    pub(crate) instance: InstanceId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) status: RouteStatus,
}

/// An entry to be.
pub(crate) struct NewRoute<'a> {
    pub(crate) destination: Ipv4Net,
    pub(crate) instance: &'a str,
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
}

impl World {
    pub(crate) fn create_route(
        &mut self,
        now: Timestamp,
        new: &NewRoute<'_>,
    ) -> Outcome<RouteEntryId> {
        let to = new.destination.trunc();
        let inside = |outer: &Ipv4Net| outer.contains(&to);
        if SERVICES.contains(&to) || self.vswitches.values().any(|it| inside(&it.spec.cidr)) {
            return Err(Refusal::bad_destination(to));
        }
        let Ok(instance) = self.instance(new.instance) else {
            return Err(Refusal::no_next_hop(new.instance));
        };
        let instance = instance.id.clone();
        if self.routes.values().any(|route| route.destination == to) {
            return Err(Refusal::route_taken(to));
        }
        self.wants_stable_routes()?;
        let limit = self.config.limits.routes;
        if self.routes.len() >= limit {
            return Err(Refusal::too_many_routes(limit));
        }
        let id = RouteEntryId::new(self.dice.id("rte")).expect("a word is an id");
        let route = Route {
            id: id.clone(),
            destination: to,
            instance,
            name: new.name.into(),
            description: new.description.into(),
            status: RouteStatus::Pending,
        };
        self.routes.insert(id.clone(), route);
        let at = now.after(self.config.timing.route);
        self.later(at, Due::RouteMade(id.clone()));
        self.advance(now);
        Ok(id)
    }

    pub(crate) fn delete_route(&mut self, now: Timestamp, id: &str) -> Outcome<()> {
        let known = RouteEntryId::new(id).ok();
        let Some(id) = known.filter(|id| self.routes.contains_key(id)) else {
            return Err(Refusal::no_route(id));
        };
        self.wants_stable_routes()?;
        if let Some(route) = self.routes.get_mut(&id) {
            route.status = RouteStatus::Leaving;
        }
        let at = now.after(self.config.timing.route);
        self.later(at, Due::RouteDeleted(id));
        self.advance(now);
        Ok(())
    }

    /// A table changes by one entry at a time (API page: "the route table contains routes in the Pending
    /// or Modifying state").
    fn wants_stable_routes(&self) -> Outcome<()> {
        let mut routes = self.routes.values();
        match routes.all(|route| route.status == RouteStatus::Available) {
            true => Ok(()),
            false => Err(Refusal::routes_unstable()),
        }
    }

    pub(super) fn route_made(&mut self, id: &RouteEntryId) {
        let Some(route) = self.routes.get_mut(id) else {
            return;
        };
        route.status = RouteStatus::Available;
        let destination = IpNet::V4(route.destination);
        // Without the instance the entry leads nowhere, and stays.
        if let Some(instance) = self.instances.get(&route.instance) {
            let eni = instance.primary_eni.clone();
            self.effects.push_back(Effect::Route { destination, eni });
        }
    }

    pub(super) fn route_deleted(&mut self, id: &RouteEntryId) {
        if let Some(route) = self.routes.remove(id) {
            let destination = IpNet::V4(route.destination);
            self.effects.push_back(Effect::Unroute { destination });
        }
    }
}
