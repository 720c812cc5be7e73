//! The PodENIs of this node, as the API server has them: each change is an input of the machine.
//!
//! Watched only where trunk pods can be: a cluster without them need not know the resource at all.

use std::{collections::BTreeSet, sync::mpsc::SyncSender};

use crd::{PodEni, keys};
use engine::node::{Input, Trunk};
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use model::PodKey;
use tokio::sync::watch;

use crate::{
    cause::chain,
    driver::{self, Message},
    trunk::Seen,
};

/// PodENIs followed. A trunk takes at most a few hundred ENIs; ten times that is a watch gone wrong.
const RECORD_MAX: usize = 4096;

/// Follows the PodENIs of `node` for ever, from when it has or is to have a trunk.
pub(crate) async fn watch(
    (client, node): (Client, String),
    driver: SyncSender<Message>,
    mut seen: watch::Receiver<Seen>,
) {
    let can = |seen: &Seen| seen.wanted || matches!(seen.trunk, Trunk::Attached(_));
    // The driver is gone only when the agent ends.
    if seen.wait_for(can).await.is_err() {
        return;
    }
    let api: Api<PodEni> = Api::all(client);
    let config =
        watcher::Config::default().labels(&format!("{}={}", keys::NODE, keys::node_label(&node)));
    let mut events = kube::runtime::watcher(api, config)
        .default_backoff()
        .boxed();
    let (mut followed, mut complaint) = (Followed::default(), String::new());
    while let Some(event) = events.next().await {
        let inputs = match event {
            Ok(event) => {
                // Before each attempt to list comes a word of its own; only an end shows that it worked.
                if !matches!(event, Event::Init | Event::InitApply(_)) {
                    complaint.clear();
                }
                followed.take(event)
            }
            Err(error) => {
                let text = chain(&error);
                if text != complaint {
                    tracing::warn!(error = text, "watching PodENIs; trunk pods wait");
                    complaint = text;
                }
                continue;
            }
        };
        for input in inputs {
            driver::give(&driver, input).await;
        }
    }
}

/// Which records the machine was told of.
#[derive(Debug, Default)]
struct Followed {
    known: BTreeSet<PodKey>,
    listed: BTreeSet<PodKey>,
}

impl Followed {
    /// What the machine is to be told. One whose record went while nobody watched is told with the end of
    /// the next list.
    fn take(&mut self, event: Event<PodEni>) -> Vec<Input> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(record) => {
                self.listed.extend(key(&record));
                self.applied(&record)
            }
            Event::InitDone => {
                let gone: Vec<PodKey> = self.known.difference(&self.listed).cloned().collect();
                gone.into_iter().map(|key| self.gone(key)).collect()
            }
            Event::Apply(record) => self.applied(&record),
            Event::Delete(record) => key(&record).map(|key| self.gone(key)).into_iter().collect(),
        }
    }

    fn gone(&mut self, key: PodKey) -> Input {
        self.known.remove(&key);
        Input::PodEni(key, None)
    }

    fn applied(&mut self, record: &PodEni) -> Vec<Input> {
        match model::podeni::PodEni::try_from(record) {
            Ok(record) if self.known.len() < RECORD_MAX => {
                let key = record.key.clone();
                self.known.insert(key.clone());
                vec![Input::PodEni(key, Some(Box::new(record)))]
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(
                    name = record.name_any(),
                    namespace = record.namespace(),
                    error = %chain(&error),
                    "a PodENI that cannot be read changes nothing"
                );
                Vec::new()
            }
        }
    }
}

fn key(record: &PodEni) -> Option<PodKey> {
    PodKey::new(record.namespace()?, record.name_any()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(name: &str, change: impl FnOnce(&mut Value)) -> PodEni {
        let mut document = json!({
            "apiVersion": "network.alibabacloud.com/v1beta1", "kind": "PodENI",
            "metadata": { "name": name, "namespace": "default", "uid": "r1", "resourceVersion": "7",
                "annotations": { "k8s.aliyun.com/pod-uid": "u1" },
                "labels": { "k8s.aliyun.com/node": "node-1" } },
            "spec": { "zone": "cn-hangzhou-i", "allocations": [{ "ipv4": "192.168.51.99",
                "ipv4CIDR": "192.168.48.0/20", "interface": "eth0",
                "eni": { "id": "eni-m", "mac": "00:16:3e:0d:7b:c2", "vSwitchID": "vsw-1",
                    "securityGroupIDs": ["sg-1"] } }] },
            "status": { "phase": "Bind", "instanceID": "i-1", "trunkENIID": "eni-t",
                "eniInfos": { "eni-m": { "id": "eni-m", "type": "Member", "vid": 7, "status": "Bind" } } },
        });
        change(&mut document);
        serde_json::from_value(document).unwrap()
    }

    fn told(inputs: Vec<Input>) -> Vec<(String, Option<u16>)> {
        let told = inputs.into_iter().map(|input| match input {
            Input::PodEni(key, record) => {
                let vlan = record.and_then(|it| it.attached.values().next()?.vlan);
                (key.name, vlan)
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn each_change_is_told_and_what_went_unseen_with_the_next_list() {
        let mut followed = Followed::default();
        let plain = |name: &str| record(name, |_| {});
        let mut take = |event| told(followed.take(event));
        assert_eq!(take(Event::Apply(plain("a"))), [("a".into(), Some(7))]);
        assert_eq!(take(Event::Apply(plain("b"))), [("b".into(), Some(7))]);
        // The connection broke, and "a" was deleted meanwhile.
        assert_eq!(take(Event::Init), []);
        assert_eq!(take(Event::InitApply(plain("b"))), [("b".into(), Some(7))]);
        assert_eq!(take(Event::InitDone), [("a".into(), None)]);
        assert_eq!(take(Event::Delete(plain("b"))), [("b".into(), None)]);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let mut followed = Followed::default();
        let good = record("a", |_| {});
        followed.take(Event::Apply(good));
        for broken in [
            record("a", |it| it["status"]["phase"] = "Odd".into()),
            record("a", |it| {
                it["status"]["eniInfos"]["eni-m"]["vid"] = 4095.into()
            }),
            record("a", |it| it["metadata"]["annotations"] = json!({})),
        ] {
            assert_eq!(told(followed.take(Event::Init)), []);
            assert_eq!(told(followed.take(Event::InitApply(broken))), []);
            // It is still there, so it is not told as gone.
            assert_eq!(told(followed.take(Event::InitDone)), []);
        }
    }
}
