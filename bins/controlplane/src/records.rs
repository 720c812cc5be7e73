//! PodENIs and the status of PodNetworkings in the API server: written as the machine says, and only over
//! what it has seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crd::{PodEni, PodNetworking};
use engine::cluster::{Input, Store, WriteFault};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use model::{EniId, PodKey, podeni::PodEni as Record, podnetworking::Resolved};
use tokio::{sync::Semaphore, time::timeout};

use crate::{cause::of_kube, election::Lead};

/// What one write may take; a silent API server is asked again.
const WRITE_BUDGET: Duration = Duration::from_secs(15);

/// Writes under way at once. An API server answers one in milliseconds; with 16 it is asked for some
/// thousand a second, which is more than the cloud makes ENIs.
const WRITES_MAX: usize = 16;

/// What the API server answers when an object was changed in between, exists already, or is gone.
const STALE: [u16; 3] = [404, 409, 410];

/// The stored objects as they were last seen, whole: a write keeps what this program does not know.
pub(crate) struct Records {
    client: Client,
    stored: Mutex<BTreeMap<PodKey, PodEni>>,
    networkings: Mutex<BTreeMap<String, PodNetworking>>,
    writes: Semaphore,
    lead: Lead,
}

impl Records {
    pub(crate) fn new(client: Client, lead: Lead) -> Self {
        Self {
            client,
            stored: Mutex::default(),
            networkings: Mutex::default(),
            writes: Semaphore::new(WRITES_MAX),
            lead,
        }
    }

    /// What the watch told of a record, for the machine.
    pub(crate) fn seen(&self, key: PodKey, object: Option<PodEni>) -> Input {
        let Some(object) = object else {
            hold(&self.stored).remove(&key);
            return Input::Record(key, None);
        };
        let input = match Record::try_from(&object) {
            Ok(record) => Input::Record(key.clone(), Some(Box::new(record))),
            Err(error) => Input::Unreadable(key.clone(), named(&object), error.to_string()),
        };
        self.keep(key, object);
        input
    }

    /// What the watch told of a PodNetworking, for the machine: nothing when it cannot be read.
    pub(crate) fn networking_seen(&self, object: PodNetworking) -> Input {
        let name = object.metadata.name.clone().unwrap_or_default();
        let read = model::podnetworking::PodNetworking::try_from(&object);
        hold(&self.networkings).insert(name.clone(), object);
        match read {
            Ok(networking) => Input::Networking(name, Some(Box::new(networking))),
            Err(error) => {
                tracing::error!(name, %error, "a PodNetworking cannot be read; no pod uses it");
                Input::Networking(name, None)
            }
        }
    }

    /// A PodNetworking is gone.
    pub(crate) fn networking_gone(&self, name: String) -> Input {
        hold(&self.networkings).remove(&name);
        Input::Networking(name, None)
    }

    /// Changes a record.
    pub(crate) async fn store(&self, key: PodKey, store: Store) -> Input {
        let Ok(_turn) = self.writes.acquire().await else {
            return failed(key, "the program ends");
        };
        match timeout(WRITE_BUDGET, self.write(&key, store)).await {
            Ok(Ok(object)) => self.written(key, object),
            Ok(Err(kube::Error::Api(status))) if STALE.contains(&status.code) => {
                Input::Written(key, Err(WriteFault::Stale))
            }
            Ok(Err(error)) => failed(key, of_kube(&error)),
            Err(_) => failed(key, format!("no answer within {WRITE_BUDGET:?}")),
        }
    }

    fn written(&self, key: PodKey, object: Option<PodEni>) -> Input {
        let Some(object) = object else {
            return Input::Written(key, Ok(None));
        };
        let read = Record::try_from(&object);
        self.keep(key.clone(), object);
        match read {
            Ok(record) => Input::Written(key, Ok(Some(Box::new(record)))),
            Err(error) => failed(key, error.to_string()),
        }
    }

    async fn write(&self, key: &PodKey, store: Store) -> Result<Option<PodEni>, kube::Error> {
        let api: Api<PodEni> = Api::namespaced(self.client.clone(), &key.namespace);
        let options = PostParams::default();
        match store {
            // It names an ENI that the next leader may be about to give to another pod.
            Store::Create(record) if !self.lead.holds() && draws(&record) => {
                Err(stale("this replica may not lead any more"))
            }
            Store::Create(record) => {
                let made = PodEni::create(&record);
                api.create(&options, &made).await.map(Some)
            }
            Store::Write(record) => {
                let stored = self.of_version(key, &record.version)?;
                let halves = stored.halves(&record);
                let mut now = stored;
                if let Some(spec) = halves.spec {
                    now = api.replace(&key.name, &options, &spec).await?;
                    self.keep(key.clone(), now.clone());
                }
                if let Some(mut status) = halves.status {
                    let version = now.metadata.resource_version.clone();
                    status.metadata.resource_version = version;
                    now = api.replace_status(&key.name, &options, &status).await?;
                }
                Ok(Some(now))
            }
            Store::Delete(uid) => {
                let only = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: Some(uid),
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                let answer = api.delete(&key.name, &only).await?;
                Ok(answer.left())
            }
            Store::LetGo(uid) => {
                let stored = self.last(key)?;
                if stored.metadata.uid.as_deref() != Some(&uid) {
                    return Err(stale("another record has the name by now"));
                }
                api.replace(&key.name, &options, &stored.let_go()).await?;
                Ok(None)
            }
        }
    }

    /// Writes what was found out about a PodNetworking.
    pub(crate) async fn resolve(&self, name: String, found: Resolved) -> Input {
        let stored = hold(&self.networkings).get(&name).cloned();
        let next = stored.and_then(|stored| stored.with_status(&found));
        let Some(next) = next else {
            return Input::Resolved(name, Ok(()));
        };
        let api: Api<PodNetworking> = Api::all(self.client.clone());
        let options = PostParams::default();
        let write = api.replace_status(&name, &options, &next);
        let outcome = match timeout(WRITE_BUDGET, write).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(of_kube(&error)),
            Err(_) => Err(format!("no answer within {WRITE_BUDGET:?}")),
        };
        Input::Resolved(name, outcome)
    }

    fn keep(&self, key: PodKey, object: PodEni) {
        let number = |object: &PodEni| -> Option<u64> {
            object.metadata.resource_version.as_deref()?.parse().ok()
        };
        let mut stored = hold(&self.stored);
        let behind = stored.get(&key).is_some_and(|known| {
            known.metadata.uid == object.metadata.uid && number(&object) < number(known)
        });
        if !behind {
            stored.insert(key, object);
        }
    }

    fn last(&self, key: &PodKey) -> Result<PodEni, kube::Error> {
        let stored = hold(&self.stored).get(key).cloned();
        stored.ok_or_else(|| stale("it is gone"))
    }

    fn of_version(&self, key: &PodKey, version: &str) -> Result<PodEni, kube::Error> {
        let stored = self.last(key)?;
        match stored.metadata.resource_version.as_deref() == Some(version) {
            true => Ok(stored),
            false => Err(stale("it was changed in between")),
        }
    }
}

/// Whether a new record is made of an ENI that was kept ready.
fn draws(record: &Record) -> bool {
    record.allocations.iter().any(|one| one.eni.is_some())
}

/// A refusal like the API server's own.
fn stale(why: &str) -> kube::Error {
    let status = kube::core::Status::failure(why, "Conflict").with_code(409);
    kube::Error::Api(Box::new(status))
}

fn failed(key: PodKey, why: impl Into<String>) -> Input {
    Input::Written(key, Err(WriteFault::Failed(why.into())))
}

/// The ENIs a record names that cannot be read otherwise; nothing when even an id cannot be.
fn named(object: &PodEni) -> Option<BTreeSet<EniId>> {
    let named = object.spec.allocations.iter();
    let ids = named
        .map(|one| one.eni.id.as_str())
        .filter(|id| !id.is_empty());
    ids.map(|id| EniId::new(id).ok()).collect()
}

/// A panic while such a value was held leaves a whole one: every change is one insert or remove.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
