//! Routes and rules of ours that belong to nobody any more.
//!
//! Finding them is a pure comparison; who the owners are is the caller's knowledge.

use std::fmt;

use model::net::{EniNet, PodNet, Route, Rule};

use crate::{error::Result, netlink::Netlink, object::Object, observe::Observed, pod, rules};

/// An object that carries our protocol id and is in no plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// A route.
    Route(Route),
    /// A rule; one that is there once too often is listed once for each surplus.
    Rule(Rule),
}

impl fmt::Display for Leftover {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Route(route) => Object::Route(route).fmt(out),
            Leftover::Rule(rule) => Object::Rule(rule).fmt(out),
        }
    }
}

/// What is observed on the node and is in the plan of none of `pods` and `enis`.
pub fn leftovers(observed: &Observed, pods: &[PodNet], enis: &[EniNet]) -> Vec<Leftover> {
    let owned_routes = pods
        .iter()
        .flat_map(|pod| &pod.host_routes)
        .chain(enis.iter().flat_map(|eni| &eni.routes));
    let owned_rules = pods.iter().flat_map(|pod| &pod.host_rules);
    let routes = surplus(&observed.routes, owned_routes).map(Leftover::Route);
    let rules = surplus(&observed.rules, owned_rules).map(Leftover::Rule);
    routes.chain(rules).collect()
}

/// The elements of `present` that are left when each of `owned` took one.
fn surplus<'a, T: Ord + Clone + 'a>(
    present: &'a [T],
    owned: impl Iterator<Item = &'a T>,
) -> impl Iterator<Item = T> {
    let mut owned: Vec<&T> = owned.collect();
    owned.sort();
    owned.dedup();
    let mut taken = vec![false; owned.len()];
    present
        .iter()
        .filter(move |object| match owned.binary_search(object) {
            Ok(at) => std::mem::replace(&mut taken[at], true),
            Err(_) => true,
        })
        .cloned()
}

/// Removes one leftover from the namespace of `host`. One that is gone already is fine.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_leftover(host: &mut Netlink, leftover: &Leftover) -> Result<()> {
    match leftover {
        Leftover::Route(route) => pod::remove_route(host, route),
        Leftover::Rule(rule) => pod::remove(host, rules::delete(rule)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: u32) -> Rule {
        let from = "10.0.0.5/32".parse().unwrap();
        Rule::new(priority, Some(from), None, 1007)
    }

    fn eni(routes: Vec<Route>) -> EniNet {
        EniNet {
            link: model::InterfaceName::new("eth1").unwrap(),
            mtu: 1500,
            addresses: Vec::new(),
            routes,
            tags: None,
            rules: Vec::new(),
            ipvlan: None,
        }
    }

    #[test]
    fn every_surplus_is_named_and_nothing_owned_is() {
        let route = |table| Route {
            table,
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: None,
            link: model::InterfaceName::new("eth1").unwrap(),
            onlink: false,
        };
        let observed = Observed {
            routes: vec![route(1007), route(1008)],
            rules: vec![rule(1), rule(1)],
            ..Observed::default()
        };
        let found = leftovers(
            &observed,
            &[],
            &[eni(vec![route(1007)]), eni(vec![route(1007)])],
        );
        let rules = [rule(1), rule(1)].map(Leftover::Rule);
        assert_eq!(
            found,
            [vec![Leftover::Route(route(1008))], rules.into()].concat()
        );
        assert_eq!(
            leftovers(&Observed::default(), &[], &[eni(vec![route(1)])]),
            []
        );
    }

    #[test]
    fn a_doubled_object_is_surplus_once() {
        let owned = [rule(1), rule(2)];
        let found: Vec<_> = surplus(&[rule(1), rule(1), rule(2)], owned.iter()).collect();
        assert_eq!(found, [rule(1)]);
    }

    #[test]
    fn a_leftover_reads_like_the_command_that_made_it() {
        let sentence = Leftover::Rule(rule(2048)).to_string();
        assert_eq!(sentence, "rule priority 2048 from 10.0.0.5/32 table 1007");
    }
}
