//! The node's own configuration: a label of the node names a ConfigMap whose `eni_conf` goes over the
//! cluster's. Read at the start and about once a minute.
//!
//! What cannot be read changes nothing: going back to the cluster's configuration because the API server
//! does not answer would move the node's pods to other vSwitches.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{Api, Client};
use serde_json::{Map, Value};

use crate::config::Overlay;

/// The label.
const LABEL: &str = "terway-config";

/// Where the ConfigMaps are.
const NAMESPACE: &str = "kube-system";

/// The key of the ConfigMap.
const KEY: &str = "eni_conf";

/// What one look may take.
const BUDGET: Duration = Duration::from_secs(10);

/// How often it is looked. kubelet brings a change of the cluster's own ConfigMap within about a
/// minute; a node asks once, twice with a label.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// Why the node's own configuration is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DynamicError {
    /// The API server says no; it will say so until somebody changes the permissions.
    #[error(
        "the agent may not read {what}, so a configuration by node label is not applied; \
         its role needs get on nodes and on configmaps in kube-system"
    )]
    Forbidden { what: String },
    #[error("reading {what} for the node's own configuration")]
    Unread {
        what: String,
        #[source]
        source: kube::Error,
    },
    #[error("reading {what} for the node's own configuration: no answer within {BUDGET:?}")]
    Late { what: String },
    #[error(
        "label {LABEL} of the node names ConfigMap {NAMESPACE}/{config_map}, which does not exist"
    )]
    Missing { config_map: String },
    #[error("ConfigMap {NAMESPACE}/{config_map}, which the node's label {LABEL} names: {why}")]
    Unusable { config_map: String, why: String },
}

/// What is known of the node's own part of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Own {
    /// Nothing: the API server has not answered yet. The cluster's configuration alone may be the wrong one.
    Unknown,
    /// What the node's label names, or that it names nothing.
    Known(Option<Overlay>),
}

impl Own {
    /// The node's part, as far as it is known to have one.
    pub(crate) fn overlay(&self) -> Option<&Overlay> {
        match self {
            Own::Unknown => None,
            Own::Known(overlay) => overlay.as_ref(),
        }
    }

    /// Who may not read the label has no configuration by label; one that is known already stays.
    pub(crate) fn refused(&mut self, error: &DynamicError) {
        if *self == Own::Unknown && matches!(error, DynamicError::Forbidden { .. }) {
            *self = Own::Known(None);
        }
    }
}

impl DynamicError {
    /// Whether nothing but a person's change will make it go away.
    pub(crate) fn is_standing(&self) -> bool {
        !matches!(
            self,
            DynamicError::Unread { .. } | DynamicError::Late { .. }
        )
    }
}

/// What the label of `node` names; nothing without one.
pub(crate) async fn overlay(client: &Client, node: &str) -> Result<Option<Overlay>, DynamicError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let found = ask(format!("node {node}"), nodes.get_metadata_opt(node)).await?;
    let label = found
        .and_then(|node| node.metadata.labels)
        .and_then(|mut labels| labels.remove(LABEL));
    let Some(config_map) = label.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let what = format!("ConfigMap {NAMESPACE}/{config_map}");
    let Some(found) = ask(what, maps.get_opt(&config_map)).await? else {
        return Err(DynamicError::Missing { config_map });
    };
    let unusable = |why: String| DynamicError::Unusable {
        config_map: config_map.clone(),
        why,
    };
    let text = found
        .data
        .and_then(|mut data| data.remove(KEY))
        .ok_or_else(|| unusable(format!("it has no key {KEY}")))?;
    let patch: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| unusable(format!("its {KEY} is no JSON object: {error}")))?;
    Ok(Some(Overlay { config_map, patch }))
}

async fn ask<T>(
    what: String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, DynamicError> {
    match tokio::time::timeout(BUDGET, call).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(DynamicError::Forbidden { what })
        }
        Ok(Err(source)) => Err(DynamicError::Unread { what, source }),
        Err(_) => Err(DynamicError::Late { what }),
    }
}
