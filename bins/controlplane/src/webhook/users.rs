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
    networking: BTreeMap<PodKey, String>,
    pods: BTreeMap<String, BTreeSet<PodKey>>,
}

/// The pods of each PodNetworking; a clone is the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(Arc<Mutex<Index>>);

impl Users {
    /// The pod uses this one, or none (any more).
    pub(crate) fn told(&self, pod: PodKey, networking: Option<String>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if index.networking.get(&pod) == networking.as_ref() {
            return;
        }
        if let Some(before) = index.networking.remove(&pod)
            && let Some(pods) = index.pods.get_mut(&before)
        {
            pods.remove(&pod);
            if pods.is_empty() {
                index.pods.remove(&before);
            }
        }
        if let Some(networking) = networking {
            let pods = index.pods.entry(networking.clone()).or_default();
            pods.insert(pod.clone());
            index.networking.insert(pod, networking);
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
    fn a_pod_counts_for_one_networking_until_it_is_gone() {
        let users = Users::default();
        let pod = |name| PodKey::new("default", name).unwrap();
        for (name, networking) in [
            ("a", Some("one")),
            ("b", Some("one")),
            ("c", None),
            ("b", Some("two")),
            ("a", Some("one")),
        ] {
            users.told(pod(name), networking.map(str::to_owned));
        }
        assert_eq!(users.of("one"), Some((1, pod("a"))));
        assert_eq!(users.of("two"), Some((1, pod("b"))));
        users.told(pod("a"), None);
        assert_eq!(users.of("one"), None);
    }
}
