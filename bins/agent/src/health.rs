//! Whether the agent can serve, and why not: what the probes, STATUS and `terway-cli` are told.
//!
//! Ready means that the next ADD can be served from what the node has: the ledger is open, the socket is
//! served, the chain is in place. It never means that the cloud answers.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What must stand before the agent is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// `eni_conf`, or the configuration of an earlier run.
    Configuration,
    /// The ledger.
    Ledger,
    /// The socket that the plugin asks.
    Socket,
    /// The CNI configuration that names the plugin.
    Chain,
}

/// What stands and what does not.
#[derive(Debug)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    missing: BTreeMap<Part, String>,
    config_error: Option<String>,
    ignored: Vec<String>,
}

impl Health {
    /// An agent that has just started: nothing stands.
    pub(crate) fn new() -> Self {
        let missing = [
            (Part::Configuration, "eni_conf is being read"),
            (Part::Ledger, "the ledger is not open yet"),
            (Part::Socket, "the socket is not served yet"),
            (Part::Chain, "the CNI configuration is not in place yet"),
        ];
        Self(Mutex::new(State {
            missing: missing.map(|(part, why)| (part, why.to_owned())).into(),
            config_error: None,
            ignored: Vec::new(),
        }))
    }

    /// `part` stands.
    pub(crate) fn stands(&self, part: Part) {
        self.lock().missing.remove(&part);
    }

    /// `part` does not stand.
    pub(crate) fn lacks(&self, part: Part, why: impl Into<String>) {
        self.lock().missing.insert(part, why.into());
    }

    /// Why the agent cannot serve, if it cannot.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let state = self.lock();
        let reasons: Vec<_> = state.missing.values().map(String::as_str).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// What is wrong with `eni_conf` as it is now, if anything is.
    pub(crate) fn set_config_error(&self, error: Option<String>) {
        self.lock().config_error = error;
    }

    pub(crate) fn config_error(&self) -> Option<String> {
        self.lock().config_error.clone()
    }

    /// Keys of `eni_conf` that ask for what this release does not do.
    pub(crate) fn set_ignored(&self, keys: Vec<String>) {
        self.lock().ignored = keys;
    }

    pub(crate) fn ignored(&self) -> Vec<String> {
        self.lock().ignored.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insert, remove or assignment: a panic leaves a whole state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_must_stand_and_what_lacks_is_named() {
        let health = Health::new();
        for part in [Part::Configuration, Part::Ledger, Part::Socket] {
            health.stands(part);
        }
        assert!(
            health
                .not_ready()
                .is_some_and(|why| why.contains("CNI configuration"))
        );
        health.stands(Part::Chain);
        assert_eq!(health.not_ready(), None);
        health.lacks(Part::Chain, "05-other.conflist sorts before ours");
        assert!(
            health
                .not_ready()
                .is_some_and(|why| why.contains("05-other"))
        );
    }
}
