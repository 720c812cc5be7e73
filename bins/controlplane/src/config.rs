//! The configuration file and the credential file, by the keys they have had.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use engine::budget::Api;
use model::podnetworking::{RELEASE_AFTER_MIN, Warm};
use serde::Deserialize;

use crate::{backoff, degradation::Degradation, routes::Selector, webhook::Known};

/// A lease shorter than this is lost by a pause that nobody else notices.
const LEASE_MIN: Duration = Duration::from_secs(3);

/// Why the program cannot start with what it was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is neither YAML nor JSON of this form.
    #[error("{path} is not the configuration that is expected: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
    /// A key is missing or cannot mean anything.
    #[error("{path}: {key} {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A time as Go writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = crd::duration::parse(&text);
        let wrong = || serde::de::Error::custom(format!("{text} is no time such as 15s"));
        let read = read.ok_or_else(wrong)?;
        Ok(Self(read))
    }
}

/// `ctrl-config.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    pub(crate) lease_lock_name: String,
    pub(crate) lease_lock_namespace: String,
    pub(crate) lease_duration: GoDuration,
    pub(crate) retry_period: GoDuration,
    pub(crate) leader_election: bool,
    pub(crate) controller_namespace: String,
    pub(crate) controller_name: String,
    pub(crate) healthz_bind_address: SocketAddr,
    /// An address, or `0` for none.
    pub(crate) metrics_bind_address: String,
    pub(crate) cluster_domain: String,
    pub(crate) disable_webhook: bool,
    pub(crate) webhook_port: u16,
    #[serde(rename = "regionID")]
    pub(crate) region_id: String,
    #[serde(rename = "clusterID")]
    pub(crate) cluster_id: String,
    #[serde(rename = "vpcID")]
    pub(crate) vpc_id: String,
    pub(crate) enable_trunk: bool,
    pub(crate) ip_stack: String,
    pub(crate) enable_webhook_inject_resource: bool,
    pub(crate) custom_stateful_workload_kinds: Vec<String>,
    /// The shortest `releaseAfter` a PodNetworking may be given.
    pub(crate) release_after_min: GoDuration,
    pub(crate) rate_limit: BTreeMap<String, u32>,
    pub(crate) backoff_override: backoff::Override,
    pub(crate) degradation: Degradation,
    pub(crate) warm_members_per_node: u32,
    #[serde(rename = "warmENIsPerZone")]
    pub(crate) warm_enis_per_zone: u32,
    /// Whether entries of the VPC's route table are made for the nodes' podCIDRs.
    pub(crate) configure_cloud_routes: bool,
    #[serde(rename = "routeTableID")]
    pub(crate) route_table_id: String,
    pub(crate) route_node_selector: Selector,
    /// Keys nobody here reads.
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_lock_name: "terway-controller-lock".into(),
            lease_lock_namespace: "kube-system".into(),
            lease_duration: GoDuration(Duration::from_secs(15)),
            retry_period: GoDuration(Duration::from_secs(2)),
            leader_election: false,
            controller_namespace: "kube-system".into(),
            controller_name: "terway-controlplane".into(),
            healthz_bind_address: SocketAddr::from(([0, 0, 0, 0], 80)),
            metrics_bind_address: "0".into(),
            cluster_domain: "cluster.local".into(),
            disable_webhook: false,
            webhook_port: 4443,
            region_id: String::new(),
            cluster_id: String::new(),
            vpc_id: String::new(),
            enable_trunk: true,
            ip_stack: "ipv4".into(),
            enable_webhook_inject_resource: true,
            custom_stateful_workload_kinds: Vec::new(),
            release_after_min: GoDuration(RELEASE_AFTER_MIN),
            rate_limit: BTreeMap::new(),
            backoff_override: backoff::Override::default(),
            degradation: Degradation::default(),
            warm_members_per_node: 0,
            warm_enis_per_zone: 0,
            configure_cloud_routes: false,
            route_table_id: String::new(),
            route_node_selector: Selector::new(),
            others: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = parse(path)?;
        let wrong = |key, why: String| ConfigError::Key {
            path: path.to_owned(),
            key,
            why,
        };
        for (key, value) in [("clusterID", &config.cluster_id), ("vpcID", &config.vpc_id)] {
            if value.is_empty() {
                let why = "is missing: ENIs are told from those of other clusters by it".into();
                return Err(wrong(key, why));
            }
        }
        if config.ip_stack != "ipv4" {
            let why = format!("is {}, but only ipv4 is served so far", config.ip_stack);
            return Err(wrong("ipStack", why));
        }
        if config.lease_duration.0 < LEASE_MIN {
            let why = format!("is shorter than {LEASE_MIN:?}");
            return Err(wrong("leaseDuration", why));
        }
        let (members, enis) = (config.warm_members_per_node, config.warm_enis_per_zone);
        for (key, value) in [("warmMembersPerNode", members), ("warmENIsPerZone", enis)] {
            if value > Warm::MAX {
                let why = format!("is {value}: no trunk carries more than {}", Warm::MAX);
                return Err(wrong(key, why));
            }
        }
        for api in config.rate_limit.keys() {
            if !api.is_empty() && !Api::ALL.iter().any(|known| known.name() == api) {
                tracing::warn!(api, "rateLimit names an API that is not called");
            }
        }
        for key in config.others.keys() {
            tracing::warn!(key, "a key of the configuration has no effect");
        }
        Ok(config)
    }

    /// The limits of the machine.
    pub(crate) fn limits(&self) -> engine::cluster::Config {
        let mut limits = engine::cluster::Config {
            tags: self.tags(),
            warm: Warm {
                members_per_node: Some(self.warm_members_per_node),
                enis_per_zone: Some(self.warm_enis_per_zone),
            },
            waits: self.backoff_override.0,
            ..Default::default()
        };
        for (name, calls) in &self.rate_limit {
            match Api::ALL.iter().find(|api| api.name() == name) {
                Some(api) => drop(limits.calls_of.insert(*api, *calls)),
                None if name.is_empty() => limits.calls_per_minute = *calls,
                None => {}
            }
        }
        limits
    }

    /// The limits of the route machine, and what its entries are called.
    pub(crate) fn routes(&self) -> engine::route::Config {
        let limits = self.limits();
        engine::route::Config {
            name: format!("terway.{}", self.cluster_id),
            calls_per_minute: limits.calls_per_minute,
            calls_of: limits.calls_of,
        }
    }

    /// What admission stands on before anything else is known.
    pub(crate) fn known(&self) -> Known {
        Known {
            trunk: self.enable_trunk,
            inject_resource: self.enable_webhook_inject_resource,
            stateful_kinds: self.custom_stateful_workload_kinds.clone(),
            release_after_min: self.release_after_min.0,
            ..Known::default()
        }
    }

    /// Tags of the ENIs we make; other programs know them too.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        [
            ("ack.aliyun.com".to_owned(), self.cluster_id.clone()),
            ("creator".to_owned(), "terway-controller".to_owned()),
        ]
        .into()
    }

    /// Where metrics are served, if anywhere.
    ///
    /// # Errors
    /// When the key is neither an address nor 0.
    pub(crate) fn metrics_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        let text = match self.metrics_bind_address.as_str() {
            "0" | "" => return Ok(None),
            text => text,
        };
        let full = match text.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => text.to_owned(),
        };
        match full.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => anyhow::bail!("metricsBindAddress {text} is no address such as 0.0.0.0:9191"),
        }
    }
}

/// What the file says of `degradation` now; nothing else of it is read while the program runs.
///
/// # Errors
/// When it cannot be read, or names no level.
pub(crate) fn degradation(path: &Path) -> Result<Degradation, ConfigError> {
    #[derive(Deserialize)]
    struct Only {
        #[serde(default)]
        degradation: Degradation,
    }
    parse::<Only>(path).map(|read| read.degradation)
}

/// `ctrl-secret.yaml`.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Credential {
    access_key: String,
    access_secret: String,
}

impl Credential {
    /// Reads the file; without one there is none.
    ///
    /// # Errors
    /// When it cannot be read, or names only half a key.
    pub(crate) fn read(path: &Path) -> Result<Option<(String, String)>, ConfigError> {
        let read: Self = match parse(path) {
            Err(ConfigError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(None);
            }
            other => other?,
        };
        match (read.access_key.is_empty(), read.access_secret.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some((read.access_key, read.access_secret))),
            _ => Err(ConfigError::Key {
                path: path.to_owned(),
                key: "accessKey",
                why: "and accessSecret must be given together".into(),
            }),
        }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_saphyr::from_str(&text).map_err(|error| ConfigError::Form {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Config::read(file.path())
    }

    #[test]
    fn yaml_and_json_are_read_with_their_defaults() {
        for text in [
            "clusterID: c1\nvpcID: vpc-1\nleaseDuration: 20s\nrateLimit:\n  AttachNetworkInterface: 30\n",
            r#"{"clusterID":"c1","vpcID":"vpc-1","leaseDuration":"20s","rateLimit":{"AttachNetworkInterface":30}}"#,
        ] {
            let config = read(text).expect("it is whole");
            assert_eq!(config.lease_duration.0, Duration::from_secs(20));
            assert_eq!(config.webhook_port, 4443);
            assert_eq!(config.known().release_after_min, RELEASE_AFTER_MIN);
            assert!(config.enable_trunk && config.enable_webhook_inject_resource);
            let limits = config.limits();
            assert_eq!(limits.calls(Api::AttachNetworkInterface), 30);
            assert_eq!(limits.calls(Api::DetachNetworkInterface), 400);
            assert_eq!(limits.tags["ack.aliyun.com"], "c1");
        }
    }

    #[test]
    fn the_least_promise_is_as_configured() {
        let config =
            read("clusterID: c1\nvpcID: vpc-1\nreleaseAfterMin: 5s\n").expect("it is whole");
        assert_eq!(config.known().release_after_min, Duration::from_secs(5));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("vpcID: vpc-1\n", "clusterID is missing"),
            ("clusterID: c1\n", "vpcID is missing"),
            (
                "clusterID: c1\nvpcID: v\nipStack: dual\n",
                "ipStack is dual",
            ),
            (
                "clusterID: c1\nvpcID: v\ndegradation: l2\n",
                "degradation is l2",
            ),
            (
                "clusterID: c1\nvpcID: v\nleaseDuration: 1s\n",
                "leaseDuration is shorter",
            ),
            (
                "clusterID: c1\nvpcID: v\nleaseDuration: soon\n",
                "leaseDuration",
            ),
            (
                "clusterID: c1\nvpcID: v\nwarmENIsPerZone: 513\n",
                "warmENIsPerZone is 513",
            ),
            (
                "clusterID: c1\nvpcID: v\nbackoffOverride:\n  eni_make: {duration: 1s}\n",
                "backoffOverride names eni_make",
            ),
            ("clusterID: [c1\n", "not the configuration"),
        ];
        for (text, expected) in table {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
