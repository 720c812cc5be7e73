//! What an agent says of its node, of whatever release it is: fields that are missing are empty.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Why a pool grows no more, in the agent's words, is current for at most this long after its time.
const RECENT_SECONDS: u64 = 300;

/// A node's agent, its pool, its ENIs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) agent: Agent,
    pub(crate) enis: Vec<Eni>,
    pub(crate) idle: u32,
    pub(crate) assigned: u32,
    pub(crate) resting: u32,
    pub(crate) waiting: u32,
    pub(crate) waiting_for: Option<String>,
    pub(crate) open_calls: u32,
}

/// The agent itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Agent {
    pub(crate) version: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) started: Option<u64>,
    pub(crate) ready: Option<bool>,
    pub(crate) not_ready: Option<String>,
    pub(crate) instance: Instance,
    pub(crate) pool: Option<Pool>,
    pub(crate) vswitches: Vec<String>,
    pub(crate) security_groups: Vec<String>,
    pub(crate) config_error: Option<String>,
    pub(crate) ignored_keys: Vec<Value>,
    pub(crate) missing_permissions: Vec<String>,
    /// How new pods are joined to the node, and why not as it is asked for.
    pub(crate) pod_links: Option<String>,
    pub(crate) pod_links_lack: Option<String>,
    pub(crate) exhausted: Option<Exhausted>,
    pub(crate) last_cloud_error: Option<CloudTrouble>,
}

/// The ECS instance.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Instance {
    pub(crate) id: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) vpc: Option<String>,
}

/// What the pool aims for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Pool {
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) enis_max: u32,
    pub(crate) addresses_per_eni: u32,
    pub(crate) cooldown_seconds: u64,
}

/// Why the pool cannot grow, and until when it does not try; without a time only a pod's end helps.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Exhausted {
    pub(crate) reason: String,
    pub(crate) until: Option<u64>,
}

/// The last refusal of the cloud.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct CloudTrouble {
    pub(crate) at: u64,
    pub(crate) action: String,
    pub(crate) text: String,
}

/// An ENI.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Eni {
    pub(crate) id: String,
    pub(crate) mac: String,
    pub(crate) vswitch: String,
    pub(crate) stage: Value,
    pub(crate) usable: bool,
    pub(crate) link: Option<String>,
    pub(crate) addresses: BTreeMap<String, String>,
    pub(crate) trunk: bool,
    /// What it carries for trunk pods: the pod of each address and its VLAN.
    pub(crate) members: BTreeMap<String, String>,
}

impl Status {
    /// Reads an agent's document.
    pub(crate) fn read(document: &Value) -> Result<Self, String> {
        if !document.is_object() {
            return Err("its answer is no object".into());
        }
        serde_json::from_value(document.clone())
            .map_err(|error| format!("its answer cannot be read: {error}"))
    }

    /// What is wrong, the gravest first; empty when nothing is.
    pub(crate) fn wrong(&self, now: u64) -> Vec<String> {
        let agent = &self.agent;
        let mut wrong = Vec::new();
        wrong.extend(agent.config_error.clone());
        if agent.ready == Some(false) {
            let why = agent.not_ready.as_deref().unwrap_or("it does not say why");
            if agent.config_error.as_deref() != Some(why) {
                wrong.push(format!("not ready: {why}"));
            }
        }
        wrong.extend(agent.missing_permissions.iter().cloned());
        wrong.extend(agent.pod_links_lack.clone());
        if let Some(exhausted) = &agent.exhausted {
            let again = match exhausted.until {
                Some(until) => format!("tried again in {}s", until.saturating_sub(now)),
                None => "until a pod ends".to_owned(),
            };
            wrong.push(format!("{} ({again})", exhausted.reason));
        }
        if self.waiting > 0 {
            let what = self.waiting_for.as_deref().unwrap_or("an address");
            let pods = crate::text::count(self.waiting as usize, "pod");
            wrong.push(format!("{pods} waiting: {what}"));
        }
        if let Some(trouble) = &agent.last_cloud_error
            && now.saturating_sub(trouble.at) <= RECENT_SECONDS
        {
            wrong.push(format!("cloud, {}: {}", trouble.action, trouble.text));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_older_agents_view_is_read() {
        let status = Status::read(&json!({ "idle": 3, "enis": [], "notices": {} })).unwrap();
        assert_eq!((status.idle, status.agent.ready), (3, None));
        assert_eq!(status.wrong(0), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_view_is_refused() {
        for document in [json!("x"), json!([]), json!({ "idle": "many" })] {
            assert!(Status::read(&document).is_err(), "{document}");
        }
    }

    #[test]
    fn the_gravest_comes_first_and_old_troubles_are_forgotten() {
        let document = json!({ "waiting": 2, "waiting_for": "no address", "agent": {
            "ready": false, "not_ready": "no eni_conf", "config_error": "no eni_conf",
            "missing_permissions": ["may not list pods"],
            "pod_links": "veth", "pod_links_lack": "new pods get veth links: no ipvlan",
            "exhausted": { "reason": "vsw-1 is full", "until": 1030 },
            "last_cloud_error": { "at": 10, "action": "CreateNetworkInterface", "text": "no" } } });
        let wrong = Status::read(&document).unwrap().wrong(1000);
        assert_eq!(
            wrong,
            [
                "no eni_conf",
                "may not list pods",
                "new pods get veth links: no ipvlan",
                "vsw-1 is full (tried again in 30s)",
                "2 pods waiting: no address"
            ]
        );
    }
}
