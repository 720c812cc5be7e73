//! PodNetworking: which pods get an ENI of their own, and of what kind, as decisions see it.
//!
//! Must not know the Kubernetes types this is read from; what does not fit here was refused at the border.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{SecurityGroupId, Timestamp, VSwitchId, ZoneId};

/// Security groups a PodNetworking may name. The cloud's default is 5 an ENI and can be raised to 10
/// (ECS limits, "security groups per ENI"); its own refusal of a sixth is shown as it comes.
pub const SECURITY_GROUPS_MAX: usize = 10;

/// The shortest time a fixed address may be promised for, unless the configuration says another: within less,
/// a node that restarts would lose the addresses of its pods.
pub const RELEASE_AFTER_MIN: Duration = Duration::from_secs(300);

/// When a fixed address is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// This long after its pod was last seen.
    After(Duration),
    /// Only with the record itself.
    Never,
}

/// For how long a pod's ENI is the pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tenure {
    /// As long as the pod is there.
    Elastic,
    /// Beyond it: the next pod of the name gets the same ENI with the same address.
    Fixed(Release),
}

impl Tenure {
    /// Whether the ENI outlives its pod.
    pub fn is_fixed(self) -> bool {
        matches!(self, Tenure::Fixed(_))
    }
}

/// How the ENI reaches the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EniAttachment {
    /// By the trunk where the node has one, else on its own.
    #[default]
    Default,
    /// As a member of the node's trunk.
    Trunk,
    /// On its own, using up one of the node's ENIs.
    Own,
}

/// Which vSwitch of several is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VSwitchPreference {
    /// The first that serves.
    #[default]
    Ordered,
    /// Any.
    Random,
    /// The one with the most free addresses.
    Most,
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// One condition on labels (Kubernetes `LabelSelectorRequirement`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Requirement {
    /// The label is there with one of these values.
    In(String, Vec<String>),
    /// The label is missing, or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is missing.
    Absent(String),
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        }
    }
}

/// Conditions that must all hold; none at all select everything (Kubernetes `LabelSelector`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Whether an object with these labels is selected.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

/// What the control plane found out about a PodNetworking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Whether pods may use it.
    pub ready: bool,
    /// Its vSwitches and their zones.
    pub vswitches: Vec<(VSwitchId, ZoneId)>,
    /// Why it is not ready; empty when it is.
    pub message: String,
    /// When this was found out.
    pub at: Timestamp,
}

/// How many ENIs are kept ready for pods that come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warm {
    /// Members of its trunk, on every node where pods of the network run; nothing when it was not said.
    pub members_per_node: Option<u32>,
    /// ENIs on no node, in every zone with such a node; nothing when it was not said.
    pub enis_per_zone: Option<u32>,
}

impl Warm {
    /// The most that may be said of either: more members than a trunk of any instance type carries.
    pub const MAX: u32 = 512;
}

/// A network plane: its pods, their vSwitches and security groups, their tenure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworking {
    /// Its name, unique in the cluster.
    pub name: String,
    /// What tells this edition of it from every other: UID and generation. Empty before it is stored.
    pub edition: String,
    /// How many ENIs are kept ready for its pods.
    pub warm: Warm,
    /// How its ENIs reach the node.
    pub attachment: EniAttachment,
    /// For how long an ENI is its pod's.
    pub tenure: Tenure,
    /// Which pods, by their own labels.
    pub pods: Option<Selector>,
    /// Which pods, by the labels of their namespace.
    pub namespaces: Option<Selector>,
    /// Any of these.
    pub vswitches: Vec<VSwitchId>,
    /// Which of them.
    pub preference: VSwitchPreference,
    /// All of these.
    pub security_groups: Vec<SecurityGroupId>,
    /// What was found out about it, if anything yet.
    pub resolved: Option<Resolved>,
}

impl PodNetworking {
    /// Whether it selects a pod with these labels in a namespace with those. Without any selector it
    /// selects none: pods ask for it by name.
    pub fn selects(&self, pod: &Labels, namespace: &Labels) -> bool {
        (self.pods.is_some() || self.namespaces.is_some())
            && self.pods.as_ref().is_none_or(|s| s.selects(pod))
            && self
                .namespaces
                .as_ref()
                .is_none_or(|s| s.selects(namespace))
    }

    /// Whether pods may use it now.
    pub fn is_ready(&self) -> bool {
        self.resolved
            .as_ref()
            .is_some_and(|resolved| resolved.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        owned.collect()
    }

    #[test]
    fn requirements_hold_as_in_kubernetes() {
        let (key, front) = (|| "kind".to_owned(), || vec!["front".to_owned()]);
        let (with, other, without) = (
            labels(&[("kind", "front")]),
            labels(&[("kind", "back")]),
            labels(&[]),
        );
        let table = [
            (Requirement::In(key(), front()), [true, false, false]),
            (Requirement::NotIn(key(), front()), [false, true, true]),
            (Requirement::Exists(key()), [true, true, false]),
            (Requirement::Absent(key()), [false, false, true]),
        ];
        for (requirement, expected) in table {
            let got = [&with, &other, &without].map(|labels| requirement.holds(labels));
            assert_eq!(got, expected, "{requirement:?}");
        }
        assert!(Selector::default().selects(&without));
    }

    #[test]
    fn both_selectors_must_select_and_none_selects_nothing() {
        let app = Selector(vec![Requirement::Exists("app".into())]);
        let mut networking = PodNetworking {
            name: "front".into(),
            edition: String::new(),
            warm: Warm::default(),
            attachment: EniAttachment::Default,
            tenure: Tenure::Elastic,
            pods: None,
            namespaces: None,
            vswitches: vec![],
            preference: VSwitchPreference::Ordered,
            security_groups: vec![],
            resolved: None,
        };
        let (labelled, bare) = (labels(&[("app", "nginx")]), labels(&[]));
        assert!(!networking.selects(&labelled, &labelled));
        networking.pods = Some(app.clone());
        assert!(networking.selects(&labelled, &bare));
        networking.namespaces = Some(app);
        assert!(!networking.selects(&labelled, &bare));
        assert!(networking.selects(&labelled, &labelled));
    }
}
