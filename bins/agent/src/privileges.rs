//! What the agent must be allowed to do, by the kernel and by the cluster, and what of it it is not.
//!
//! A permission that is missing shows late and in a strange place: a watch that never starts, a pod that
//! is refused months later. So it is asked for before it is needed, and told by its name. What the cloud
//! does not allow is not known before it refuses; the refusal names the action.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::authorization::v1::{
    ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use crate::{cause::chain, notices::Notices};

/// The number of CAP_NET_ADMIN (include/uapi/linux/capability.h).
const CAP_NET_ADMIN: u64 = 12;
/// The number of CAP_SYS_ADMIN, which stood for CAP_BPF before Linux 5.8.
const CAP_SYS_ADMIN: u64 = 21;
/// The number of CAP_BPF.
const CAP_BPF: u64 = 39;

/// The namespace whose Role counts beside the ClusterRole.
const NAMESPACE: &str = "kube-system";

/// What `deploy/base/rbac.yaml` grants: API group, resource, verbs, and what does not work without.
const NEEDED: [(&str, &str, &[&str], &str); 7] = [
    (
        "",
        "pods",
        &["get", "list", "watch"],
        "pods are looked up one by one, or are refused",
    ),
    (
        "",
        "nodes",
        &["get"],
        "a configuration by node label is not applied",
    ),
    (
        "",
        "configmaps",
        &["get"],
        "a configuration by node label is not applied",
    ),
    (
        "",
        "nodes",
        &["patch"],
        "the control plane binds no trunk pod to the node",
    ),
    (
        "",
        "nodes/status",
        &["patch"],
        "no trunk pod is scheduled to the node",
    ),
    (
        crd::GROUP,
        "podenis",
        &["get", "list", "watch"],
        "trunk pods get no network",
    ),
    (
        "events.k8s.io",
        "events",
        &["create", "patch"],
        "events like this one are not sent",
    ),
];

/// How often the API server is asked: while something is missing, and otherwise.
const PERIOD_MISSING: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_secs(600);
/// What one question may take.
const BUDGET: Duration = Duration::from_secs(10);

/// Why this agent cannot change the node's network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CapabilityError {
    /// The process cannot see its own capabilities.
    #[error("reading CapEff of /proc/self/status")]
    Unread,
    /// The DaemonSet's securityContext takes it away.
    #[error(
        "capability NET_ADMIN is missing: links, routes and rules cannot be set up; add it under \
         securityContext.capabilities.add of container terway"
    )]
    NetAdmin,
}

/// Says at once what would otherwise be a refusal of the kernel at the first pod.
pub(crate) fn check_capabilities() -> Result<(), CapabilityError> {
    match effective()? & (1 << CAP_NET_ADMIN) {
        0 => Err(CapabilityError::NetAdmin),
        _ => Ok(()),
    }
}

/// Whether the kernel takes eBPF programs of this process, which a trunk ENI needs.
pub(crate) fn may_load_programs() -> bool {
    effective().is_ok_and(|set| set & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) != 0)
}

fn effective() -> Result<u64, CapabilityError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .ok_or(CapabilityError::Unread)
}

/// What the cluster does not permit, as it was found last.
#[derive(Debug, Default)]
pub(crate) struct Privileges(Mutex<Vec<String>>);

impl Privileges {
    /// One sentence for each permission that is missing.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the API server for ever, and tells what is missing whenever that changes.
    pub(crate) async fn watch(self: Arc<Self>, client: Client, notices: Notices) {
        let mut whole = false;
        loop {
            let before = self.missing();
            let missing = match rules(&client).await {
                Ok(Some(rules)) => {
                    let missing = missing(&rules);
                    if missing.is_empty() && !whole {
                        tracing::info!("every permission is granted");
                    }
                    whole = missing.is_empty();
                    missing
                }
                Ok(None) => Vec::new(),
                Err(error) => {
                    tracing::debug!(error, "asking for this agent's permissions");
                    before.clone()
                }
            };
            for text in missing.iter().filter(|text| !before.contains(text)) {
                notices.permission_missing(text);
            }
            let period = match missing.is_empty() {
                true => PERIOD,
                false => PERIOD_MISSING,
            };
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = missing;
            tokio::time::sleep(period).await;
        }
    }
}

/// What this agent may do, as far as the API server knows all of it.
async fn rules(client: &Client) -> Result<Option<Vec<ResourceRule>>, String> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(NAMESPACE.into()),
        },
        ..Default::default()
    };
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let options = PostParams::default();
    let answer = tokio::time::timeout(BUDGET, reviews.create(&options, &review)).await;
    let answer = answer.map_err(|_| format!("no answer within {BUDGET:?}"))?;
    let status = answer.map_err(|error| chain(&error))?.status;
    // An authoriser that cannot list its rules, a webhook for example, may permit more than is listed.
    let whole = status.filter(|status| !status.incomplete);
    Ok(whole.map(|status| status.resource_rules))
}

/// What is needed and not among `rules`.
fn missing(rules: &[ResourceRule]) -> Vec<String> {
    let has = |list: &[String], wanted: &str| list.iter().any(|it| it == "*" || it == wanted);
    let permitted = |group: &str, resource: &str, verb: &str| {
        rules.iter().any(|rule| {
            let groups = rule.api_groups.as_deref().unwrap_or_default();
            let resources = rule.resources.as_deref().unwrap_or_default();
            let all = rule.resource_names.as_ref().is_none_or(Vec::is_empty);
            all && has(groups, group) && has(resources, resource) && has(&rule.verbs, verb)
        })
    };
    let mut sentences = Vec::new();
    for (group, resource, verbs, without) in NEEDED {
        for verb in verbs
            .iter()
            .filter(|verb| !permitted(group, resource, verb))
        {
            let of = match group {
                "" => String::new(),
                group => format!(" of {group}"),
            };
            sentences.push(format!(
                "the agent's service account may not {verb} {resource}{of}, so {without}; \
                 apply deploy/base/rbac.yaml"
            ));
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(group: &str, resource: &str, verbs: &[&str]) -> ResourceRule {
        ResourceRule {
            api_groups: Some(vec![group.into()]),
            resources: Some(vec![resource.into()]),
            verbs: verbs.iter().map(|verb| (*verb).into()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn each_verb_that_is_not_granted_is_named() {
        let whole: Vec<ResourceRule> = NEEDED
            .iter()
            .map(|(group, resource, verbs, _)| rule(group, resource, verbs))
            .collect();
        assert_eq!(missing(&whole), [""; 0]);
        assert_eq!(missing(&[rule("*", "*", &["*"])]), [""; 0]);
        for (at, (_, resource, verbs, _)) in NEEDED.iter().enumerate() {
            for verb in *verbs {
                let mut rules = whole.clone();
                rules[at].verbs.retain(|it| it != verb);
                let told = missing(&rules);
                assert!(
                    told.len() == 1 && told[0].contains(&format!("may not {verb} {resource}")),
                    "{told:?}"
                );
            }
        }
        let mut one = whole.clone();
        one[0].resource_names = Some(vec!["web".into()]);
        assert_eq!(missing(&one).len(), 3, "a rule for one pod is none for all");
    }
}
