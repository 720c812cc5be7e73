//! What PodNetworking, PodENI and the annotations of a pod say in the same words.
//!
//! Texts stay texts until they are read: an object that an older definition let in must not end the watch
//! that brings all the others.

use ipnet::IpNet;
use model::{
    IdError, SecurityGroupId, VSwitchId,
    podnetworking::{EniAttachment, Release, Tenure, VSwitchPreference},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration;

/// A field that cannot mean anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}: {expected}")]
pub struct FieldError {
    /// Where it stands, as `kubectl explain` would name it.
    pub field: String,
    /// What stands there, cut to a readable length.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl FieldError {
    pub(crate) fn new(
        field: impl Into<String>,
        value: impl AsRef<str>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.as_ref().chars().take(64).collect(),
            expected: expected.into(),
        }
    }
}

/// For how long an address belongs to its pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocationType {
    /// Elastic: as long as the pod is there. Fixed: beyond it, for the next pod of the name.
    #[serde(rename = "type", default = "elastic")]
    #[schemars(extend("enum" = ["Elastic", "Fixed"]))]
    pub kind: String,
    /// When a Fixed address is given back: TTL or Never.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["TTL", "Never"]))]
    pub release_strategy: String,
    /// With TTL: how long after its pod was last seen, a Go duration of at least 5m.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release_after: String,
}

fn elastic() -> String {
    "Elastic".into()
}

impl Default for AllocationType {
    fn default() -> Self {
        Self {
            kind: elastic(),
            release_strategy: String::new(),
            release_after: String::new(),
        }
    }
}

impl AllocationType {
    pub(crate) fn read(&self, field: &str) -> Result<Tenure, FieldError> {
        match self.kind.as_str() {
            "" | "Elastic" => return Ok(Tenure::Elastic),
            "Fixed" => {}
            other => {
                return Err(FieldError::new(
                    format!("{field}.type"),
                    other,
                    "expected Elastic or Fixed",
                ));
            }
        }
        let (strategy, after) = (self.release_strategy.as_str(), self.release_after.as_str());
        match strategy {
            "Never" if after.is_empty() => Ok(Tenure::Fixed(Release::Never)),
            "Never" => Err(FieldError::new(
                format!("{field}.releaseAfter"),
                after,
                "releaseStrategy Never takes no duration",
            )),
            "TTL" | "" => match duration::parse(after) {
                Some(delay) => Ok(Tenure::Fixed(Release::After(delay))),
                None => Err(FieldError::new(
                    format!("{field}.releaseAfter"),
                    after,
                    "expected a Go duration such as 5m0s, or releaseStrategy Never",
                )),
            },
            other => Err(FieldError::new(
                format!("{field}.releaseStrategy"),
                other,
                "expected TTL or Never",
            )),
        }
    }

    pub(crate) fn of(tenure: Tenure) -> Self {
        let (kind, strategy, after) = match tenure {
            // Readers of other programs parse the duration whatever the type.
            Tenure::Elastic => ("Elastic", "", "0s".into()),
            Tenure::Fixed(Release::Never) => ("Fixed", "Never", String::new()),
            Tenure::Fixed(Release::After(delay)) => ("Fixed", "TTL", duration::print(delay)),
        };
        Self {
            kind: kind.into(),
            release_strategy: strategy.into(),
            release_after: after,
        }
    }
}

/// How an ENI reaches the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EniOptions {
    /// Trunk: as a member of the node's trunk. ENI: on its own. Default: by the trunk where the node has one.
    #[serde(default = "default_eni_type")]
    #[schemars(extend("enum" = ["Trunk", "ENI", "Default"]))]
    pub eni_type: String,
}

fn default_eni_type() -> String {
    "Default".into()
}

impl Default for EniOptions {
    fn default() -> Self {
        Self::of(EniAttachment::Default)
    }
}

impl EniOptions {
    pub(crate) fn read(&self, field: &str) -> Result<EniAttachment, FieldError> {
        match self.eni_type.as_str() {
            "" | "Default" => Ok(EniAttachment::Default),
            "Trunk" => Ok(EniAttachment::Trunk),
            "ENI" => Ok(EniAttachment::Own),
            other => Err(FieldError::new(
                format!("{field}.eniType"),
                other,
                "expected Trunk, ENI or Default",
            )),
        }
    }

    pub(crate) fn of(attachment: EniAttachment) -> Self {
        let text = match attachment {
            EniAttachment::Default => "Default",
            EniAttachment::Trunk => "Trunk",
            EniAttachment::Own => "ENI",
        };
        Self {
            eni_type: text.into(),
        }
    }
}

/// Which vSwitch of several is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VSwitchSelectOptions {
    /// ordered: the first that serves. random: any. most: the one with the most free addresses.
    #[serde(default = "ordered")]
    #[schemars(extend("enum" = ["ordered", "random", "most"]))]
    pub v_switch_selection_policy: String,
}

fn ordered() -> String {
    "ordered".into()
}

impl Default for VSwitchSelectOptions {
    fn default() -> Self {
        Self::of(VSwitchPreference::Ordered)
    }
}

impl VSwitchSelectOptions {
    pub(crate) fn read(&self, field: &str) -> Result<VSwitchPreference, FieldError> {
        match self.v_switch_selection_policy.as_str() {
            "" | "ordered" => Ok(VSwitchPreference::Ordered),
            "random" => Ok(VSwitchPreference::Random),
            "most" => Ok(VSwitchPreference::Most),
            other => Err(FieldError::new(
                format!("{field}.vSwitchSelectionPolicy"),
                other,
                "expected ordered, random or most",
            )),
        }
    }

    pub(crate) fn of(preference: VSwitchPreference) -> Self {
        let text = match preference {
            VSwitchPreference::Ordered => "ordered",
            VSwitchPreference::Random => "random",
            VSwitchPreference::Most => "most",
        };
        Self {
            v_switch_selection_policy: text.into(),
        }
    }
}

/// A destination that goes by an interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The destination, a CIDR block.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dst: String,
}

pub(crate) fn read_routes(field: &str, routes: &[Route]) -> Result<Vec<IpNet>, FieldError> {
    let all = routes.iter().enumerate();
    all.map(|(at, route)| block(&format!("{field}[{at}].dst"), &route.dst))
        .collect()
}

pub(crate) fn routes_of(routes: &[IpNet]) -> Vec<Route> {
    let all = routes.iter().map(IpNet::to_string);
    all.map(|dst| Route { dst }).collect()
}

fn block(field: &str, text: &str) -> Result<IpNet, FieldError> {
    let wrong = |_| FieldError::new(field, text, "expected a CIDR block such as 10.0.0.0/8");
    text.parse().map_err(wrong)
}

pub(crate) fn read_vswitches(field: &str, ids: &[String]) -> Result<Vec<VSwitchId>, FieldError> {
    let all = ids.iter().enumerate();
    all.map(|(at, text)| id(&format!("{field}[{at}]"), text, VSwitchId::new(text)))
        .collect()
}

pub(crate) fn read_groups(field: &str, ids: &[String]) -> Result<Vec<SecurityGroupId>, FieldError> {
    let all = ids.iter().enumerate();
    all.map(|(at, text)| id(&format!("{field}[{at}]"), text, SecurityGroupId::new(text)))
        .collect()
}

pub(crate) fn id<T>(field: &str, text: &str, read: Result<T, IdError>) -> Result<T, FieldError> {
    read.map_err(|error| FieldError::new(field, text, format!("expected a {}", error.what)))
}

pub(crate) fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(T::to_string).collect()
}
