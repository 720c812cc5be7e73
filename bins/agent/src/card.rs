//! Who this agent is, for people: release, node, instance, and what it was configured to do.

use std::sync::Arc;

use engine::node::{Config, Trunk};
use serde_json::{Value, json};

use crate::{
    facts::Known, health::Health, metrics::Limits, observe::Observation, privileges::Privileges,
    trunk::Seen,
};

/// What is known of the agent beside its pool.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    node: String,
    /// Seconds since the epoch.
    started: u64,
    config: Config,
    known: Known,
    privileges: Arc<Privileges>,
    /// Why pods do not get the links that are asked for.
    links_lack: Option<String>,
}

impl Card {
    /// The card of an agent on a node, since when, and what it lacks.
    pub(crate) fn new(
        (node, started): (String, u64),
        config: Config,
        known: Known,
        (privileges, links_lack): (Arc<Privileges>, Option<String>),
    ) -> Self {
        Self {
            node,
            started,
            config,
            known,
            privileges,
            links_lack,
        }
    }

    /// The configuration changed.
    pub(crate) fn configured(&mut self, config: &Config, known: &Known) {
        (self.config, self.known) = (config.clone(), known.clone());
    }

    /// Whether new pods are on ipvlan.
    fn ipvlan(&self) -> bool {
        let policy = self.config.policy.ipvlan.as_ref();
        policy.is_some_and(|it| it.new_pods)
    }

    /// What the node may have.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            enis_max: self.config.enis_max,
            addresses_per_eni: self.config.limits.ipv4_per_eni,
        }
    }

    /// What the cluster is to know of the node's trunk, when it is `trunk` and the pool has so many ENIs.
    pub(crate) fn trunk(&self, trunk: Trunk, has_pod_enis: bool, pool_enis: usize) -> Seen {
        let limits = self.config.limits;
        let left = limits.enis.saturating_sub(1 + self.config.enis_max);
        // A pool that was larger gives ENIs back only as they become idle; and without the Services' addresses no
        // pod can have a whole one.
        let pool_enis = u32::try_from(pool_enis).unwrap_or(u32::MAX);
        let free = limits.enis.saturating_sub(pool_enis.saturating_add(1));
        let enis = match self.config.policy.services.is_empty() {
            true => 0,
            false => left.min(free),
        };
        Seen {
            wanted: self.config.policy.trunk.is_some() || has_pod_enis || left > 0,
            trunk,
            members: limits.enis_total.saturating_sub(limits.enis),
            enis,
        }
    }

    /// The object `agent` of the node's view (docs/protocol.md).
    pub(crate) fn agent(&self, seen: &Observation, health: &Health) -> Value {
        let (config, known) = (&self.config, &self.known);
        let not_ready = health.not_ready();
        let failure = seen.cloud_failure.as_ref();
        json!({
            "version": crate::VERSION,
            "node": self.node,
            "started": self.started,
            "ready": not_ready.is_none(),
            "not_ready": not_ready,
            "instance": {
                "id": known.instance,
                "type": known.instance_type,
                "region": known.region,
                "zone": known.zone,
            },
            "pool": {
                "min": config.idle_min,
                "max": config.idle_max,
                "enis_max": config.enis_max,
                "addresses_per_eni": config.limits.ipv4_per_eni,
                "cooldown_seconds": config.cooldown.as_secs(),
            },
            "vswitches": config.vswitches,
            "security_groups": config.security_groups,
            "config_error": health.config_error(),
            "ignored_keys": health.ignored(),
            "missing_permissions": self.privileges.missing(),
            "pod_links": if self.ipvlan() { "ipvlan" } else { "veth" },
            "pod_links_lack": self.links_lack,
            "exhausted": seen.view.exhausted,
            "last_cloud_error": failure.map(|failure| json!({ "at": failure.at, "text": failure.what })),
        })
    }
}
