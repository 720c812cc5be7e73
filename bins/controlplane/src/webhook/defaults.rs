//! What `eni_conf` gives to PodNetworkings and pods that leave something open: vSwitches by zone, and security
//! groups.
//!
//! The agents read the same keys from a mounted file and judge them; here what cannot be read gives nothing.

use std::collections::BTreeMap;

use engine::admission::Defaults;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use model::{IdError, SecurityGroupId, VSwitchId, ZoneId};
use serde::Deserialize;

/// The agents' ConfigMap, and the key in it.
const CONFIG_MAP: &str = "eni-config";
const KEY: &str = "eni_conf";

/// Why there are no defaults.
#[derive(Debug, thiserror::Error)]
pub(super) enum DefaultsError {
    /// The API server refused to show the ConfigMap.
    #[error("reading ConfigMap {namespace}/{CONFIG_MAP}: {source}")]
    Read {
        namespace: String,
        source: Box<kube::Error>,
    },
    /// What is there is not JSON of this form.
    #[error("key {KEY} of ConfigMap {CONFIG_MAP} cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// What is there is no id.
    #[error("key {KEY} of ConfigMap {CONFIG_MAP}: {0}")]
    Id(#[from] IdError),
}

/// The keys of `eni_conf` that count here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EniConf {
    vswitches: BTreeMap<String, Vec<String>>,
    security_group: String,
    security_groups: Vec<String>,
}

/// The defaults of the cluster; none where it has no such ConfigMap.
pub(super) async fn read(client: &Client, namespace: &str) -> Result<Defaults, DefaultsError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(CONFIG_MAP).await;
    let found = found.map_err(|source| DefaultsError::Read {
        namespace: namespace.into(),
        source: Box::new(source),
    })?;
    let data = found.and_then(|map| map.data).unwrap_or_default();
    match data.get(KEY) {
        Some(text) => parse(text),
        None => Ok(Defaults::default()),
    }
}

fn parse(text: &str) -> Result<Defaults, DefaultsError> {
    let read: EniConf = serde_json::from_str(text)?;
    let mut defaults = Defaults::default();
    for (zone, ids) in &read.vswitches {
        let ids = ids.iter().map(VSwitchId::new).collect::<Result<_, _>>()?;
        defaults.vswitches.insert(ZoneId::new(zone)?, ids);
    }
    let one = Some(&read.security_group).filter(|text| !text.is_empty());
    for id in one.into_iter().chain(&read.security_groups) {
        let id = SecurityGroupId::new(id)?;
        if !defaults.security_groups.contains(&id) {
            defaults.security_groups.push(id);
        }
    }
    Ok(defaults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_counts_once_and_what_is_no_id_is_named() {
        let text = r#"{"version":"1","vswitches":{"z-i":["vsw-1","vsw-2"]},"security_group":"sg-1",
            "security_groups":["sg-2","sg-1"],"max_pool_size":5}"#;
        let read = parse(text).unwrap();
        let groups: Vec<_> = read.security_groups.iter().map(|id| id.as_str()).collect();
        assert_eq!(groups, ["sg-1", "sg-2"]);
        assert_eq!(read.vswitches.values().next().unwrap().len(), 2);
        for (text, named) in [
            (r#"{"vswitches":{"z-i":["vsw 1"]}}"#, "\"vsw 1\""),
            (r#"{"security_groups":"sg-1"}"#, "cannot be read"),
        ] {
            assert!(parse(text).unwrap_err().to_string().contains(named));
        }
    }
}
