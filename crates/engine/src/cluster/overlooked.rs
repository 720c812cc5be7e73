//! Pods that a PodNetworking selects and that came by admission without its annotation: the webhook did
//! not answer when they were created, or there was no such PodNetworking yet; and those that are selected and
//! cannot have what it gives.

use model::{PodKey, podnetworking::Labels};

use super::{Cluster, message::Notice};
use crate::admission::{is_for, needs_a_name, not_usable};

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

    /// Tells of a pod that has not what selects it: it keeps the network it got, and only its author can create it
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
        let all = self.planes.values().map(|plane| &plane.networking);
        let matching = all.filter(|one| one.selects(&pod.labels, namespace));
        let (fit, barred): (Vec<_>, Vec<_>) =
            matching.partition(|one| is_for(one, pod.pod.stable_name));
        let promised = fit.iter().find(|one| one.is_ready());
        let notice = match (promised, fit.first()) {
            (Some(one), _) => Some(Notice::Overlooked(key.clone(), one.name.clone())),
            (None, Some(one)) => Some(Notice::Unused(key.clone(), not_usable(one))),
            (None, None) => {
                let why = barred.into_iter().find_map(needs_a_name);
                why.map(|why| Notice::Unused(key.clone(), why))
            }
        };
        if let Some(notice) = notice {
            self.notice(notice);
        }
    }
}
