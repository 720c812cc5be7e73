//! PodNetworking: which pods get ENIs of their own, and of what kind.

use kube::CustomResource;
use model::{
    VSwitchId, ZoneId,
    podnetworking::{PodNetworking as Networking, Resolved, Warm},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AllocationType, EniOptions, FieldError, LabelSelector, VSwitchSelectOptions, keys, network,
    time,
};

/// A network plane: its pods, their vSwitches and security groups, and for how long an address is theirs.
#[expect(
    clippy::duplicated_attributes,
    reason = "two printed columns may have the same type and priority"
)]
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "network.alibabacloud.com",
    version = "v1beta1",
    kind = "PodNetworking",
    plural = "podnetworkings",
    singular = "podnetworking",
    status = "PodNetworkingStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A network plane: which pods get ENIs of their own, in which vSwitches, with which security groups.",
    annotation("crd.network.alibabacloud.com/version", "v0.2.0"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.status"),
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.allocationType.type"
    ),
    printcolumn(
        name = "vSwitches",
        type_ = "string",
        json_path = ".spec.vSwitchOptions"
    ),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "ENI",
        type_ = "string",
        json_path = ".spec.eniOptions.eniType",
        priority = 1
    ),
    printcolumn(
        name = "SecurityGroups",
        type_ = "string",
        json_path = ".spec.securityGroupIDs",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkingSpec {
    /// How the ENIs reach the node.
    #[serde(default)]
    pub eni_options: EniOptions,
    /// For how long an address belongs to its pod.
    #[serde(default)]
    pub allocation_type: AllocationType,
    /// Which pods. Without it, pods ask for this network by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelectors>,
    /// Security groups of the ENIs, all of them in force: 1 to 10. Empty: those of eni-config.
    #[serde(
        rename = "securityGroupIDs",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub security_group_ids: Vec<String>,
    /// vSwitches, one of which is taken. Empty: those of eni-config.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v_switch_options: Vec<String>,
    /// Which of the vSwitches is taken.
    #[serde(default)]
    pub v_switch_select_options: VSwitchSelectOptions,
}

/// Which pods a network is for. When both are given, both must select.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelectors {
    /// By the pod's labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// By the labels of the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// What was found out about a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkingStatus {
    /// Ready when pods may use it, Fail when they may not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["", "Ready", "Fail"]))]
    pub status: String,
    /// Its vSwitches and where they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v_switches: Vec<VSwitch>,
    /// When this was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub update_at: Option<String>,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A vSwitch and where it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VSwitch {
    /// Its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

impl TryFrom<&PodNetworking> for Networking {
    type Error = FieldError;

    fn try_from(stored: &PodNetworking) -> Result<Self, FieldError> {
        let spec = &stored.spec;
        let selectors = spec.selector.as_ref();
        let pods = selectors.and_then(|both| both.pod_selector.as_ref());
        let namespaces = selectors.and_then(|both| both.namespace_selector.as_ref());
        let pods = pods.map(|one| one.read("spec.selector.podSelector"));
        let namespaces = namespaces.map(|one| one.read("spec.selector.namespaceSelector"));
        let preference = &spec.v_switch_select_options;
        let meta = &stored.metadata;
        let edition = meta.uid.as_ref().zip(meta.generation);
        Ok(Networking {
            name: meta.name.clone().unwrap_or_default(),
            edition: edition.map_or_else(String::new, |(uid, generation)| {
                format!("{uid}.{generation}")
            }),
            // What cannot be read keeps nothing ready; the webhook refuses it.
            warm: stored.warm().unwrap_or_default(),
            attachment: spec.eni_options.read("spec.eniOptions")?,
            tenure: spec.allocation_type.read("spec.allocationType")?,
            pods: pods.transpose()?,
            namespaces: namespaces.transpose()?,
            vswitches: network::read_vswitches("spec.vSwitchOptions", &spec.v_switch_options)?,
            preference: preference.read("spec.vSwitchSelectOptions")?,
            security_groups: network::read_groups(
                "spec.securityGroupIDs",
                &spec.security_group_ids,
            )?,
            resolved: stored.status.as_ref().and_then(read_status),
        })
    }
}

/// A status that cannot be read is none: it is found out again and written anew.
fn read_status(status: &PodNetworkingStatus) -> Option<Resolved> {
    let all = status.v_switches.iter();
    let vswitches = all.map(|one| {
        let (id, zone) = (VSwitchId::new(&one.id), ZoneId::new(&one.zone));
        Some((id.ok()?, zone.ok()?))
    });
    let ready = match status.status.as_str() {
        "Ready" => true,
        "Fail" => false,
        _ => return None,
    };
    Some(Resolved {
        ready,
        vswitches: vswitches.collect::<Option<_>>()?,
        message: status.message.clone(),
        at: time::parse("status.updateAt", status.update_at.as_deref()?).ok()?,
    })
}

impl From<&Resolved> for PodNetworkingStatus {
    fn from(resolved: &Resolved) -> Self {
        let vswitches = resolved.vswitches.iter();
        let text = match resolved.ready {
            true => "Ready",
            false => "Fail",
        };
        Self {
            status: text.into(),
            v_switches: vswitches
                .map(|(id, zone)| VSwitch {
                    id: id.to_string(),
                    zone: zone.to_string(),
                })
                .collect(),
            update_at: Some(time::print(resolved.at)),
            message: resolved.message.clone(),
        }
    }
}

impl PodNetworking {
    /// How many ENIs its annotations say are kept ready.
    ///
    /// # Errors
    /// When one of them is no number, or more than a trunk carries.
    pub fn warm(&self) -> Result<Warm, FieldError> {
        let annotations = self.metadata.annotations.as_ref();
        let read = |key: &str| {
            let Some(text) = annotations.and_then(|all| all.get(key)) else {
                return Ok(None);
            };
            let number = text.parse().ok().filter(|number| *number <= Warm::MAX);
            let expected = || {
                let expected = format!("expected a number, 0 to {}", Warm::MAX);
                FieldError::new(format!("annotation {key}"), text, expected)
            };
            number.map(Some).ok_or_else(expected)
        };
        Ok(Warm {
            members_per_node: read(keys::WARM_MEMBERS_PER_NODE)?,
            enis_per_zone: read(keys::WARM_ENIS_PER_ZONE)?,
        })
    }

    /// This object with another status, to be sent to the status subresource: refused there when somebody
    /// wrote it since it was read. Nothing when only the time differs.
    pub fn with_status(&self, resolved: &Resolved) -> Option<Self> {
        let status = PodNetworkingStatus::from(resolved);
        let same = |old: &PodNetworkingStatus| {
            (&old.status, &old.v_switches, &old.message)
                == (&status.status, &status.v_switches, &status.message)
        };
        if self.status.as_ref().is_some_and(same) {
            return None;
        }
        let mut next = self.clone();
        next.status = Some(status);
        Some(next)
    }
}
