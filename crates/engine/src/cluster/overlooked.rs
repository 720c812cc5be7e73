//! Pods that a PodNetworking selects and that came by admission without its annotation: the webhook did
//! not answer when they were created, or there was no such PodNetworking yet.

use model::{PodKey, podnetworking::Labels};

use super::{Cluster, message::Notice};

impl Cluster {
    /// The labels of a namespace. Its pods may have been told before it.
    pub(super) fn namespace_seen(&mut self, name: &str, labels: Option<Labels>) {
        let Some(labels) = labels else {
            self.namespaces.remove(name);
            return;
        };
        let new = self.namespaces.insert(name.to_owned(), labels).is_none();
        if new && self.complete {
            let pods = self.pods.keys().filter(|key| key.namespace == name);
            for key in pods.cloned().collect::<Vec<_>>() {
                self.overlook(&key);
            }
        }
    }

    /// Tells of a pod that was overlooked: it keeps the network it got, and only its author can create it
    /// again.
    pub(super) fn overlook(&mut self, key: &PodKey) {
        let Some(pod) = self.pods.get(key) else {
            return;
        };
        if pod.exempt || pod.pod.finished || !pod.pod.networks.is_empty() {
            return;
        }
        let Some(namespace) = self.namespaces.get(&key.namespace) else {
            return;
        };
        if let Some(why) = pod.complaint.clone() {
            self.notice(Notice::Waiting(key.clone(), why));
            return;
        }
        let mut networkings = self.planes.values().map(|plane| &plane.networking);
        let promised = networkings.find(|one| {
            one.is_ready()
                && one.selects(&pod.labels, namespace)
                && (pod.pod.stable_name || !one.tenure.is_fixed())
        });
        if let Some(networking) = promised {
            let name = networking.name.clone();
            self.notice(Notice::Overlooked(key.clone(), name));
        }
    }
}
