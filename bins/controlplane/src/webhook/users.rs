//! Which pods use which PodNetworking: what whoever deletes one is told.
//!
//! Beside what else the watches bring, because it changes with every pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use model::PodKey;

#[derive(Debug, Default)]
struct Index {
    networkings: BTreeMap<PodKey, BTreeSet<String>>,
    pods: BTreeMap<String, BTreeSet<PodKey>>,
}

/// The pods of each PodNetworking; a clone is the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(Arc<Mutex<Index>>);

impl Users {
    /// The pod uses these; none (any more), when it is gone.
    pub(crate) fn told(&self, pod: PodKey, networkings: BTreeSet<String>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = index.networkings.remove(&pod).unwrap_or_default();
        for gone in before.difference(&networkings) {
            if let Some(pods) = index.pods.get_mut(gone) {
                pods.remove(&pod);
                if pods.is_empty() {
                    index.pods.remove(gone);
                }
            }
        }
        for new in networkings.difference(&before) {
            let pods = index.pods.entry(new.clone()).or_default();
            pods.insert(pod.clone());
        }
        if !networkings.is_empty() {
            index.networkings.insert(pod, networkings);
        }
    }

    /// How many pods use it, and one of them.
    pub(super) fn of(&self, networking: &str) -> Option<(usize, PodKey)> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = index.pods.get(networking)?;
        Some((pods.len(), pods.first()?.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_counts_for_its_networkings_until_it_is_gone() {
        let users = Users::default();
        let pod = |name| PodKey::new("default", name).unwrap();
        let tell = |name, used: &[&str]| {
            users.told(
                pod(name),
                used.iter().map(|one| (*one).to_owned()).collect(),
            );
        };
        for (name, used) in [
            ("a", &["one"][..]),
            ("b", &["one", "two"]),
            ("c", &[]),
            ("b", &["two", "three"]),
            ("a", &["one"]),
        ] {
            tell(name, used);
        }
        assert_eq!(users.of("one"), Some((1, pod("a"))));
        assert_eq!(users.of("two"), Some((1, pod("b"))));
        assert_eq!(users.of("three"), Some((1, pod("b"))));
        tell("a", &[]);
        assert_eq!(users.of("one"), None);
    }
}
