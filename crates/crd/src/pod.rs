//! What a pod says about its networks: its annotations and owners.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use model::{InterfaceName, podeni::NetworkRequest};
use serde::{Deserialize, Serialize};

use crate::{AllocationType, EniOptions, FieldError, Route, VSwitchSelectOptions, keys, network};

/// Why an annotation cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// Not JSON, or not of this form.
    #[error("annotation {annotation} cannot be read: {why}")]
    Form {
        /// Its key.
        annotation: &'static str,
        /// What is wrong with it, and where.
        why: String,
    },
    /// One of its fields cannot mean anything.
    #[error("annotation {annotation}: {source}")]
    Field {
        /// Its key.
        annotation: &'static str,
        /// The field.
        source: FieldError,
    },
}

/// What a pod says about its networks. Which of it counts, and whether it may say all of it, is decided
/// elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// That it has ENIs of its own.
    pub wants_eni: bool,
    /// The PodNetworking it uses.
    pub networking: Option<String>,
    /// Its interfaces, each in full; empty when it does not say.
    pub full: Vec<NetworkRequest>,
    /// Its interfaces, each by the name of a PodNetworking; empty when it does not say.
    pub named: Vec<NamedNetwork>,
}

/// An interface by the name of a PodNetworking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedNetwork {
    /// Its name in the pod.
    pub interface: String,
    /// The PodNetworking.
    pub networking: String,
    /// Whether the pod's default route goes by it.
    pub default_route: bool,
    /// Further destinations that go by it.
    pub routes: Vec<IpNet>,
}

impl Networks {
    /// What the annotations of a pod say.
    ///
    /// # Errors
    /// One sentence that names the annotation, the field in it and the value.
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Result<Self, AnnotationError> {
        let get = |key: &str| {
            let text = annotations.and_then(|all| all.get(key)).map(String::as_str);
            text.filter(|text| !text.trim().is_empty())
        };
        Ok(Self {
            wants_eni: get(keys::POD_ENI) == Some("true"),
            networking: get(keys::POD_NETWORKING).map(str::to_owned),
            full: get(keys::POD_NETWORKS)
                .map(read_full)
                .transpose()?
                .unwrap_or_default(),
            named: get(keys::POD_NETWORKS_REQUEST)
                .map(read_named)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

/// The text of the annotation `pod-networks` for these interfaces.
pub fn write_networks(networks: &[NetworkRequest]) -> String {
    let pod_networks = networks.iter().map(PodNetwork::of).collect();
    // A structure of texts and flags is always JSON.
    serde_json::to_string(&PodNetworks { pod_networks }).unwrap_or_default()
}

/// The annotation `pod-networks`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodNetworks {
    pod_networks: Vec<PodNetwork>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodNetwork {
    #[serde(default)]
    v_switch_options: Vec<String>,
    #[serde(rename = "securityGroupIDs", default)]
    security_group_ids: Vec<String>,
    #[serde(default)]
    interface: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra_routes: Vec<Route>,
    #[serde(default)]
    eni_options: EniOptions,
    #[serde(default)]
    v_switch_select_options: VSwitchSelectOptions,
    #[serde(
        rename = "resourceGroupID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    resource_group_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    network_interface_traffic_mode: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    default_route: bool,
    #[serde(default)]
    allocation_type: AllocationType,
}

impl PodNetwork {
    fn of(one: &NetworkRequest) -> Self {
        Self {
            v_switch_options: network::texts(&one.vswitches),
            security_group_ids: network::texts(&one.security_groups),
            interface: one.interface.to_string(),
            extra_routes: network::routes_of(&one.routes),
            eni_options: EniOptions::of(one.attachment),
            v_switch_select_options: VSwitchSelectOptions::of(one.preference),
            resource_group_id: one.resource_group.clone().unwrap_or_default(),
            network_interface_traffic_mode: String::new(),
            default_route: one.default_route,
            allocation_type: AllocationType::of(one.tenure),
        }
    }

    fn read(&self, field: &str) -> Result<NetworkRequest, FieldError> {
        let of = |name: &str| format!("{field}.{name}");
        // ENIs for RDMA are another product; what is asked for must not be left out in silence.
        if !matches!(
            self.network_interface_traffic_mode.as_str(),
            "" | "Standard"
        ) {
            return Err(FieldError::new(
                of("networkInterfaceTrafficMode"),
                &self.network_interface_traffic_mode,
                "only Standard is served",
            ));
        }
        let preference = &self.v_switch_select_options;
        Ok(NetworkRequest {
            interface: InterfaceName::new(&self.interface).map_err(|_| {
                let expected = "expected the name of an interface, 1 to 5 characters such as eth0";
                FieldError::new(of("interface"), &self.interface, expected)
            })?,
            tenure: self.allocation_type.read(&of("allocationType"))?,
            attachment: self.eni_options.read(&of("eniOptions"))?,
            vswitches: network::read_vswitches(&of("vSwitchOptions"), &self.v_switch_options)?,
            preference: preference.read(&of("vSwitchSelectOptions"))?,
            security_groups: network::read_groups(
                &of("securityGroupIDs"),
                &self.security_group_ids,
            )?,
            resource_group: Some(self.resource_group_id.clone()).filter(|text| !text.is_empty()),
            default_route: self.default_route,
            routes: network::read_routes(&of("extraRoutes"), &self.extra_routes)?,
        })
    }
}

fn read_full(text: &str) -> Result<Vec<NetworkRequest>, AnnotationError> {
    let annotation = keys::POD_NETWORKS;
    let parsed: PodNetworks = json(annotation, text)?;
    let all = parsed.pod_networks.iter().enumerate();
    all.map(|(at, one)| one.read(&format!("podNetworks[{at}]")))
        .collect::<Result<_, _>>()
        .map_err(|source| AnnotationError::Field { annotation, source })
}

/// An entry of the annotation `pod-networks-request`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkByName {
    #[serde(default)]
    interface_name: String,
    #[serde(default)]
    network: String,
    #[serde(default)]
    default_route: bool,
    #[serde(default)]
    routes: Vec<Route>,
}

fn read_named(text: &str) -> Result<Vec<NamedNetwork>, AnnotationError> {
    let annotation = keys::POD_NETWORKS_REQUEST;
    let parsed: Vec<NetworkByName> = json(annotation, text)?;
    let all = parsed.into_iter().enumerate();
    all.map(|(at, one)| {
        if one.network.is_empty() {
            let expected = "expected the name of a PodNetworking";
            return Err(FieldError::new(format!("[{at}].network"), "", expected));
        }
        Ok(NamedNetwork {
            interface: match one.interface_name.is_empty() {
                true => "eth0".into(),
                false => one.interface_name,
            },
            networking: one.network,
            default_route: one.default_route,
            routes: network::read_routes(&format!("[{at}].routes"), &one.routes)?,
        })
    })
    .collect::<Result<_, _>>()
    .map_err(|source| AnnotationError::Field { annotation, source })
}

fn json<'a, T: Deserialize<'a>>(
    annotation: &'static str,
    text: &'a str,
) -> Result<T, AnnotationError> {
    serde_json::from_str(text).map_err(|error| AnnotationError::Form {
        annotation,
        why: error.to_string(),
    })
}

/// Whether the next pod of this one's name is its successor: it belongs to a StatefulSet or to one of
/// `kinds`, or to nobody, so that only its author makes another of the name.
pub fn has_stable_name(owners: Option<&[OwnerReference]>, kinds: &[String]) -> bool {
    let owners = owners.unwrap_or_default();
    let stable =
        |owner: &OwnerReference| owner.kind == "StatefulSet" || kinds.contains(&owner.kind);
    owners.is_empty() || owners.iter().any(stable)
}

/// Whether a DaemonSet made the pod.
pub fn is_of_daemon_set(meta: &ObjectMeta) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    owners.any(|owner| owner.kind == "DaemonSet")
}

/// Whether a pod asked to be left alone.
pub fn is_ignored(meta: &ObjectMeta) -> bool {
    let labels = meta.labels.as_ref();
    labels
        .and_then(|all| all.get(keys::IGNORE))
        .map(String::as_str)
        == Some("true")
}
