//! What admission stands on: what the program's watches brought, and what is asked of the API server when a
//! pod needs it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crd::PodEni;
use engine::admission::{Defaults, Standing};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use model::{
    PodKey, VSwitchId, ZoneId,
    podeni::PodEni as Record,
    podnetworking::{Labels, PodNetworking},
};
use tokio::sync::watch;

use super::users::Users;

/// What one question to the API server may take. A pod needs two at most, and the API server itself waits 10 s
/// for the webhook.
const LOOKUP_BUDGET: Duration = Duration::from_secs(3);

/// What the watches brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// All PodNetworkings that can be read, by name.
    pub(crate) networkings: BTreeMap<String, PodNetworking>,
    /// What `eni_conf` gives to networks that leave something open.
    pub(crate) defaults: Defaults,
    /// Whether ENIs of pods are trunk members (`enableTrunk`).
    pub(crate) trunk: bool,
    /// Whether a pod is to request its ENIs as a resource (`enableWebhookInjectResource`).
    pub(crate) inject_resource: bool,
    /// Owners, beside StatefulSet, whose pods keep their names (`customStatefulWorkloadKinds`).
    pub(crate) stateful_kinds: Vec<String>,
    /// The shortest time a fixed address may be promised for (`releaseAfterMin`).
    pub(crate) release_after_min: Duration,
    /// Which pods use which PodNetworking.
    pub(crate) users: Users,
}

impl Known {
    /// The zones of vSwitches: of those that PodNetworkings were found to have, and of the defaults.
    pub(super) fn zones(&self) -> BTreeMap<VSwitchId, ZoneId> {
        let found = self
            .networkings
            .values()
            .filter_map(|one| one.resolved.as_ref());
        let found = found.flat_map(|resolved| resolved.vswitches.iter().cloned());
        let defaults = self.defaults.vswitches.iter();
        let defaults =
            defaults.flat_map(|(zone, all)| all.iter().map(|id| (id.clone(), zone.clone())));
        defaults.chain(found).collect()
    }

    /// What admission stands on, with these zones.
    pub(super) fn standing<'a>(&'a self, zones: &'a BTreeMap<VSwitchId, ZoneId>) -> Standing<'a> {
        Standing {
            networkings: &self.networkings,
            zones,
            defaults: &self.defaults,
            trunk: self.trunk,
            inject_resource: self.inject_resource,
            release_after_min: self.release_after_min,
        }
    }
}

/// Tells the webhooks what is known.
#[derive(Debug, Clone)]
pub(crate) struct Publisher(Arc<watch::Sender<Arc<Known>>>);

impl Publisher {
    pub(crate) fn new(known: Known) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(known))))
    }

    /// A PodNetworking is so; nothing when it is gone or cannot be read.
    pub(crate) fn networking(&self, name: &str, is: Option<PodNetworking>) {
        self.0.send_modify(|known| {
            let networkings = &mut Arc::make_mut(known).networkings;
            match is {
                Some(is) => networkings.insert(name.into(), is),
                None => networkings.remove(name),
            };
        });
    }

    /// `eni_conf` says this.
    pub(super) fn defaults(&self, is: Defaults) {
        self.0
            .send_modify(|known| Arc::make_mut(known).defaults = is);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Known>> {
        self.0.subscribe()
    }
}

/// Why something could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The API server refused.
    #[error("asking the API server for {what}: {source}")]
    Refused {
        what: String,
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("the API server did not answer for {what} within {} s", LOOKUP_BUDGET.as_secs())]
    Late { what: String },
    /// What is there cannot be read.
    #[error("{what} cannot be read: {source}")]
    Unreadable {
        what: String,
        source: crd::FieldError,
    },
}

/// What is looked up for one pod.
pub(super) trait Lookup: Send + Sync + 'static {
    /// The labels of a namespace.
    fn labels(&self, namespace: &str) -> impl Future<Output = Result<Labels, LookupError>> + Send;

    /// The zone of the fixed address an earlier pod of this name left behind, if one did.
    fn kept_zone(
        &self,
        pod: &PodKey,
    ) -> impl Future<Output = Result<Option<ZoneId>, LookupError>> + Send;
}

/// Asks the API server: a watch may not yet know a namespace made a moment before its pods, and must not be
/// believed when it says that there is no PodENI.
pub(super) struct Asking(Client);

impl Asking {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Lookup for Asking {
    async fn labels(&self, namespace: &str) -> Result<Labels, LookupError> {
        let what = format!("namespace {namespace}");
        let api: Api<Namespace> = Api::all(self.0.clone());
        let found = in_time(what, api.get_metadata(namespace)).await?;
        Ok(found.metadata.labels.unwrap_or_default())
    }

    async fn kept_zone(&self, pod: &PodKey) -> Result<Option<ZoneId>, LookupError> {
        let what = format!("PodENI {pod}");
        let api: Api<PodEni> = Api::namespaced(self.0.clone(), &pod.namespace);
        let Some(found) = in_time(what.clone(), api.get_opt(&pod.name)).await? else {
            return Ok(None);
        };
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let record =
            Record::try_from(&found).map_err(|source| LookupError::Unreadable { what, source })?;
        Ok(record.is_fixed().then_some(record.zone))
    }
}

async fn in_time<T>(
    what: String,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, LookupError> {
    match tokio::time::timeout(LOOKUP_BUDGET, asked).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(source)) => Err(LookupError::Refused {
            what,
            source: Box::new(source),
        }),
        Err(_) => Err(LookupError::Late { what }),
    }
}
