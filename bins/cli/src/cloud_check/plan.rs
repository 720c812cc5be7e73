//! What a check will do, found out before anything is done: region, credentials, vSwitch, security groups,
//! as the agent would take them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use cloud::{Client, Credentials, Deadline, InstanceFacts, Keys, Metadata, Source};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use model::{RegionId, SecurityGroupId, VSwitchId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::CloudCheckArgs;
use crate::cluster::{CONFIGMAP, Cluster, Seen, Where};

/// Where a mounted Secret holds an AccessKey, as the agent reads it.
const KEY_DIRECTORY: &str = "/var/alibaba-addon-secret";

/// Longest `eni_conf` read: a ConfigMap holds at most 1 MiB.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// What the metadata service may take before this counts as no instance.
const METADATA: Duration = Duration::from_secs(3);

/// The keys of `eni_conf` that a check needs; the agent's reader judges the others.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Settings {
    access_key: String,
    access_secret: String,
    region_id: String,
    vswitches: std::collections::BTreeMap<String, Vec<VSwitchId>>,
    security_group: String,
    security_groups: Vec<String>,
    resource_group_id: Option<String>,
}

/// What will be done and with what.
pub(super) struct Plan {
    pub(super) region: RegionId,
    pub(super) endpoints: String,
    pub(super) source: String,
    pub(super) credentials: &'static str,
    pub(super) vswitch: VSwitchId,
    pub(super) security_groups: Vec<SecurityGroupId>,
    pub(super) resource_group: Option<String>,
    /// The instance this is, when it is one.
    pub(super) instance: Option<InstanceFacts>,
}

impl Plan {
    /// Finds out, and makes the client it is done with. Reads files, metadata and perhaps a ConfigMap; asks the cloud nothing.
    pub(super) async fn make(arguments: &CloudCheckArgs, place: &Where) -> Result<(Self, Client)> {
        let (source, text) = configuration(arguments, place).await?;
        let settings = parse(&source, &text)?;
        let metadata = Arc::new(Metadata::new(&arguments.metadata).context("--metadata")?);
        let facts = metadata.instance(Deadline::within(METADATA)).await;
        if let (Err(error), true) = (&facts, arguments.attach) {
            let why = crate::agent::chain(error);
            bail!("--attach needs an ECS instance to attach to, and this seems to be none: {why}");
        }
        let instance = facts.ok();
        let region = match (settings.region_id.as_str(), &instance) {
            ("", Some(instance)) => instance.region.clone(),
            ("", None) => bail!(
                "which region? {source} has no region_id, and this is no ECS instance: add region_id"
            ),
            (region, _) => RegionId::new(region).context("eni_conf key region_id")?,
        };
        let vswitch = vswitch(&settings, instance.as_ref(), arguments)?;
        let security_groups = groups(&settings)?;
        let credentials = match (settings.access_key.is_empty(), instance.is_some()) {
            (false, _) => "the AccessKey of eni_conf",
            (true, true) => "a mounted AccessKey, or the instance's RAM role",
            (true, false) => "a mounted AccessKey",
        };
        let config = cloud::Config::from_env(|name| std::env::var(name).ok(), region.clone())?;
        let endpoints = format!("{} and {}", config.ecs, config.vpc);
        let client = Client::new(config, chain(&settings, metadata))?;
        let plan = Self {
            region,
            endpoints,
            source,
            credentials,
            vswitch,
            security_groups,
            resource_group: settings.resource_group_id,
            instance,
        };
        Ok((plan, client))
    }

    /// What will be done, for a person to agree to.
    pub(super) fn words(&self, run: &str, attach: bool) -> String {
        let groups: Vec<&str> = self
            .security_groups
            .iter()
            .map(SecurityGroupId::as_str)
            .collect();
        let place = match (&self.instance, attach) {
            (Some(instance), true) => format!(", attach it to {} and detach it", instance.instance),
            _ => String::new(),
        };
        format!(
            "region {} at {}\nconfiguration: {}; credentials: {}\n\
             This will read, then make one ENI in {} with security groups {}, tagged {}={run},\n\
             give it addresses and take them back{place}, and delete it. Calls that the cloud must refuse\n\
             are tried too. ENIs that an earlier check left behind are deleted.",
            self.region,
            self.endpoints,
            self.source,
            self.credentials,
            self.vswitch,
            groups.join(" "),
            super::TAG,
        )
    }
}

/// Where `eni_conf` is, and its text.
async fn configuration(arguments: &CloudCheckArgs, place: &Where) -> Result<(String, String)> {
    let path = &arguments.config;
    if path.exists() {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        return Ok((path.display().to_string(), text));
    }
    let shown = path.display();
    let cluster = Cluster::connect(place)
        .await
        .with_context(|| format!("no {shown}, and no cluster to ask for ConfigMap eni-config"))?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match cluster.look(&maps, CONFIGMAP).await {
        Seen::Is(map) => {
            let text = map.data.and_then(|mut data| data.remove("eni_conf"));
            let text = text.context("ConfigMap eni-config has no key eni_conf")?;
            Ok(("ConfigMap eni-config".into(), text))
        }
        Seen::Unknown(why) => bail!("no {shown}, and ConfigMap eni-config cannot be read: {why}"),
        Seen::Absent | Seen::Pointless => bail!("neither {shown} nor ConfigMap eni-config exists"),
    }
}

/// Reads `eni_conf`. Its text holds a secret, so a complaint names the place and quotes nothing.
fn parse(source: &str, text: &str) -> Result<Settings> {
    if text.len() > CONFIG_BYTES_MAX {
        bail!("{source} is longer than {CONFIG_BYTES_MAX} bytes");
    }
    let mut document: Map<String, Value> = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => bail!(
            "{source} is no JSON object (line {}, column {})",
            error.line(),
            error.column()
        ),
    };
    // As for the agent, a key that is null is one that is not set.
    document.retain(|_, value| !value.is_null());
    match serde_json::from_value(Value::Object(document)) {
        Ok(settings) => Ok(settings),
        Err(_) => {
            bail!("a key of {source} has a value of the wrong type; the agent's log names it")
        }
    }
}

fn vswitch(
    settings: &Settings,
    instance: Option<&InstanceFacts>,
    arguments: &CloudCheckArgs,
) -> Result<VSwitchId> {
    if let Some(named) = &arguments.vswitch {
        return VSwitchId::new(named).context("--vswitch");
    }
    let lists = match instance {
        Some(instance) => settings.vswitches.get(instance.zone.as_str()),
        None => settings.vswitches.values().next(),
    };
    let first = lists.and_then(|list| list.first()).cloned();
    first
        .or_else(|| instance.map(|instance| instance.vswitch.clone()))
        .context("which vSwitch? eni_conf names none and this is no ECS instance: give --vswitch")
}

fn groups(settings: &Settings) -> Result<Vec<SecurityGroupId>> {
    let one = std::iter::once(&settings.security_group);
    let mut groups = Vec::new();
    for name in one
        .chain(&settings.security_groups)
        .filter(|name| !name.is_empty())
    {
        let group = SecurityGroupId::new(name.as_str()).context("eni_conf key security_groups")?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        bail!("eni_conf names no security group (security_groups)");
    }
    Ok(groups)
}

/// The agent's chain: what is configured, what is mounted, the role.
fn chain(settings: &Settings, metadata: Arc<Metadata>) -> Credentials {
    let configured = !settings.access_key.is_empty() && !settings.access_secret.is_empty();
    let key = configured.then(|| {
        Source::Static(Keys::permanent(
            &settings.access_key,
            &settings.access_secret,
        ))
    });
    let directory = PathBuf::from(KEY_DIRECTORY);
    let files = Source::Files {
        id: directory.join("access-key-id"),
        secret: directory.join("access-key-secret"),
    };
    let role = Source::InstanceRole(metadata);
    Credentials::new(key.into_iter().chain([files, role]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_eni_conf_is_refused_without_being_quoted() {
        for text in [
            "",
            "[]",
            r#"{"access_secret": hush}"#,
            r#"{"vswitches": "hush"}"#,
            r#"{"access_secret": ["hush"]}"#,
        ] {
            let error = parse("eni_conf", text).err().unwrap().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        let long = " ".repeat(CONFIG_BYTES_MAX + 1);
        assert!(parse("eni_conf", &long).is_err());
    }

    #[test]
    fn both_keys_name_security_groups_once() {
        let text = r#"{"security_group":"sg-1","security_groups":["sg-1","sg-2"],"other":1,"region_id":null}"#;
        assert_eq!(groups(&parse("x", text).unwrap()).unwrap().len(), 2);
        assert!(groups(&parse("x", "{}").unwrap()).is_err());
    }
}
