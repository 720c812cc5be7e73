//! `eni_conf`, the agent's part of the ConfigMap `kube-system/eni-config`: read once into types, and
//! every complaint names the key and what was expected.
//!
//! The keys are those clusters have today. A key of a feature that is not built yet is reported, not
//! silently taken.

mod keys;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use engine::{
    netplan::LocalTraffic,
    node::{EniPolicy, Policy, PrefixPolicy, VSwitchPolicy},
};
use ipnet::Ipv4Net;
use model::{InstanceLimits, SecurityGroupId, VSwitchId, ZoneId};
use serde_json::{Map, Value};

use self::keys::{Keys, wrong};

/// Rest of a released address when the configuration says nothing. kube-proxy learns of a pod's end
/// within about 30 s on a busy cluster, and a peer's SYN to the old pod is repeated for 63 s
/// (tcp_syn_retries 6) but finds no socket; a minute covers the first and most of the second.
const COOLDOWN_DEFAULT: Duration = Duration::from_secs(60);

/// Largest pool size taken: ten times the addresses of the largest instance type.
const POOL_SIZE_MAX: u64 = 10_000;

/// Keys of `eni_conf` that ask for something this release does not do, with what it is.
const NOT_YET: [(&str, &str); 7] = [
    ("backoff_override", "back-off by configuration"),
    ("credential_path", "encrypted credentials"),
    ("enable_erdma", "RDMA"),
    ("extra_routes", "extra routes"),
    (
        "ip_pool_sync_period",
        "a pool synchronised by a clock; it follows every event",
    ),
    ("ipv6_prefix_count", "IPv6 prefixes"),
    ("ipam_type", "addresses given out by the control plane"),
];

/// Whether the ConfigMap beside `path` says that nobody wants NetworkPolicy: key
/// `disable_network_policy`, "true". Without it somebody may rely on policies.
pub(crate) fn policy_is_disabled(path: &Path) -> bool {
    let key = path.with_file_name("disable_network_policy");
    std::fs::read_to_string(key).is_ok_and(|text| text.trim() == "true")
}

/// What `eni_conf` says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// AccessKey id and secret, if given here.
    pub(crate) access_key: Option<AccessKey>,
    pub(crate) region: Option<String>,
    /// vSwitches of each zone.
    pub(crate) vswitches: BTreeMap<ZoneId, Vec<VSwitchId>>,
    pub(crate) security_groups: Vec<SecurityGroupId>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) idle_min: u32,
    pub(crate) idle_max: u32,
    pub(crate) eni_max: u32,
    pub(crate) eni_cap_ratio: f64,
    pub(crate) eni_cap_shift: i64,
    pub(crate) resource_group: Option<String>,
    pub(crate) cooldown: Duration,
    /// In mode VPC, the network of all pods: what a pod sends outside of it leaves with the node's address.
    pub(crate) cluster_cidr: Option<Ipv4Net>,
    /// Idle addresses to keep, counted in ENIs.
    pub(crate) eni_min: u32,
    pub(crate) policy: Policy,
    /// Kinds of owners, in small letters, whose pods keep their names.
    pub(crate) sticky_kinds: BTreeSet<String>,
    /// Keys that ask for something this release does not do, with what it is.
    pub(crate) ignored: Vec<(&'static str, &'static str)>,
}

/// An AccessKey. Its secret is never printed.
#[derive(Clone, PartialEq)]
pub(crate) struct AccessKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessKey({}, ...)", self.id)
    }
}

/// Why `eni_conf` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{path} cannot be read; it is the key eni_conf of ConfigMap kube-system/eni-config")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("key eni_conf of ConfigMap kube-system/eni-config is no JSON object: {0}")]
    NoJson(String),
    #[error("with ConfigMap kube-system/{config_map}, which the node's label names, over it")]
    Overlaid {
        config_map: String,
        #[source]
        source: Box<SettingsError>,
    },
    #[error(
        "eni_conf key service_cidr is gone, and pods of this node are on ipvlan, which reach no Service without it"
    )]
    ServicesGone,
    #[error("eni_conf key {key} is {found}; expected {expected}")]
    Key {
        key: String,
        found: String,
        expected: &'static str,
    },
}

/// What this process took up once, at its start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fixed {
    access_key: Option<AccessKey>,
    region: Option<String>,
    resource_group: Option<String>,
}

impl Settings {
    /// Reads `path`, with `overlay` over it.
    pub(crate) fn load(path: &Path, overlay: Option<&Overlay>) -> Result<Self, SettingsError> {
        let text = std::fs::read(path).map_err(|source| SettingsError::Unreadable {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text, overlay)
    }

    /// Takes `text` as `eni_conf`, with `overlay` over it.
    pub(crate) fn parse(text: &[u8], overlay: Option<&Overlay>) -> Result<Self, SettingsError> {
        let mut document: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|error| SettingsError::NoJson(error.to_string()))?;
        let Some(overlay) = overlay else {
            return Self::read(&document);
        };
        merge(&mut document, &overlay.patch);
        Self::read(&document).map_err(|source| SettingsError::Overlaid {
            config_map: overlay.config_map.clone(),
            source: Box::new(source),
        })
    }

    fn read(document: &Map<String, Value>) -> Result<Self, SettingsError> {
        let keys = Keys(document);
        if let Some(stack @ ("dual" | "ipv6")) = keys.text("ip_stack")? {
            return Err(wrong(
                "ip_stack",
                &Value::from(stack),
                "\"ipv4\"; this release serves IPv4",
            ));
        }
        let idle_min = keys.count("min_pool_size", POOL_SIZE_MAX)?.unwrap_or(0);
        let idle_max = keys.count("max_pool_size", POOL_SIZE_MAX)?.unwrap_or(0);
        if idle_min > idle_max && document.contains_key("max_pool_size") {
            let found = Value::from(idle_max);
            return Err(wrong("max_pool_size", &found, "at least min_pool_size"));
        }
        let access_key = match (keys.text("access_key")?, keys.text("access_secret")?) {
            (Some(id), Some(secret)) if !id.is_empty() && !secret.is_empty() => Some(AccessKey {
                id: id.into(),
                secret: secret.into(),
            }),
            (None | Some(""), None | Some("")) => None,
            (id, _) => {
                let missing = if id.is_none_or(str::is_empty) {
                    "access_key"
                } else {
                    "access_secret"
                };
                return Err(wrong(
                    missing,
                    &Value::Null,
                    "the other half of the AccessKey that is set",
                ));
            }
        };
        Ok(Self {
            access_key,
            region: keys.text("region_id")?.map(str::to_owned),
            vswitches: keys.vswitches()?,
            security_groups: keys.security_groups()?,
            tags: keys.tags("eni_tags")?,
            idle_min,
            idle_max: idle_max.max(idle_min),
            eni_max: keys.count("max_eni", POOL_SIZE_MAX)?.unwrap_or(0),
            eni_cap_ratio: keys.number("eni_cap_ratio")?.unwrap_or(1.0),
            eni_cap_shift: keys.integer("eni_cap_shift")?.unwrap_or(0),
            resource_group: keys.text("resource_group_id")?.map(str::to_owned),
            cooldown: keys.duration("ip_cooldown")?.unwrap_or(COOLDOWN_DEFAULT),
            cluster_cidr: keys.network("cluster_cidr")?,
            eni_min: keys.count("min_eni", POOL_SIZE_MAX)?.unwrap_or(0),
            policy: policy(&keys)?,
            sticky_kinds: keys.sticky_kinds()?,
            ignored: ignored(&keys)?,
        })
    }

    /// What takes a restart to change.
    pub(crate) fn fixed(&self) -> Fixed {
        Fixed {
            access_key: self.access_key.clone(),
            region: self.region.clone(),
            resource_group: self.resource_group.clone(),
        }
    }

    /// Idle addresses to keep: `min_pool_size`, or as many as `min_eni` ENIs bring if that is more; never
    /// more than the node may have.
    pub(crate) fn idle_min(&self, limits: InstanceLimits) -> u32 {
        let most = self.enis_max(limits).saturating_mul(limits.ipv4_per_eni);
        let by_eni = self.eni_min.saturating_mul(limits.ipv4_per_eni).min(most);
        self.idle_min.max(by_eni)
    }

    /// ENIs the agent may have beside the primary one: the instance type's, times `eni_cap_ratio`,
    /// plus `eni_cap_shift`, less the primary, and at most `max_eni` if that is set.
    pub(crate) fn enis_max(&self, limits: InstanceLimits) -> u32 {
        // Both factors are small: instance types have at most a few hundred ENIs.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the product of two small numbers"
        )]
        let capped = (f64::from(limits.enis) * self.eni_cap_ratio) as i64 + self.eni_cap_shift - 1;
        let capped = u32::try_from(capped.max(0)).unwrap_or(u32::MAX);
        let capped = capped.min(limits.enis.saturating_sub(1));
        if self.eni_max > 0 {
            capped.min(self.eni_max)
        } else {
            capped
        }
    }
}

/// What an operator may choose about the pool beside its size. Tags given here come to those every
/// agent keeps away from.
fn policy(keys: &Keys<'_>) -> Result<Policy, SettingsError> {
    let standard = Policy::default();
    let mut tag_blocks = standard.tag_blocks;
    tag_blocks.extend(keys.tag_blocks()?);
    let (every, each) = keys.rate_limit()?;
    Ok(Policy {
        // The mode's, which the program's arguments name.
        block: None,
        vswitches: match keys.text("vswitch_selection_policy")? {
            Some("ordered") => VSwitchPolicy::Ordered,
            Some("most") => VSwitchPolicy::Most,
            // Clusters have all kinds of words there, and for all of them it was chance.
            Some(_) | None => VSwitchPolicy::Random,
        },
        enis: match keys.text("eni_selection_policy")? {
            Some("least_ips") => EniPolicy::LeastIps,
            Some(_) | None => EniPolicy::MostIps,
        },
        prefixes: prefixes(keys)?,
        warm_up: keys.count("ip_warm_up_size", POOL_SIZE_MAX)?.unwrap_or(0),
        reclaim: keys.reclaim()?,
        tag_filter: keys.tags("eni_tag_filter")?,
        tag_blocks,
        calls_per_minute: every.unwrap_or(standard.calls_per_minute),
        calls_of: each,
        sticky_keep: standard.sticky_keep,
        trunk: trunk(keys)?,
        services: keys.services()?,
        // Found out when the agent starts.
        ipvlan: None,
    })
}

/// Whether the node has a trunk ENI, and how its trunk pods reach each other.
fn trunk(keys: &Keys<'_>) -> Result<Option<LocalTraffic>, SettingsError> {
    let key = "trunk_local_traffic";
    let traffic = match keys.text(key)? {
        None | Some("" | "strict") => LocalTraffic::Strict,
        Some("standard") => LocalTraffic::Standard,
        Some(other) => {
            let expected =
                "\"strict\" (through the VPC, security groups hold) or \"standard\" (on the node)";
            return Err(wrong(key, &Value::from(other), expected));
        }
    };
    Ok(keys.flag("enable_eni_trunking")?.then_some(traffic))
}

fn prefixes(keys: &Keys<'_>) -> Result<Option<PrefixPolicy>, SettingsError> {
    let least = keys.count("ipv4_prefix_count", POOL_SIZE_MAX)?.unwrap_or(0);
    let enabled = keys.flag("enable_ip_prefix")?;
    Ok(enabled.then_some(PrefixPolicy { least }))
}

fn ignored(keys: &Keys<'_>) -> Result<Vec<(&'static str, &'static str)>, SettingsError> {
    let mut ignored: Vec<_> = NOT_YET
        .into_iter()
        .filter(|(key, _)| keys.is_set(key))
        .collect();
    let policy = keys.text("vswitch_selection_policy")?;
    if policy.is_some_and(|policy| !["", "ordered", "random", "most"].contains(&policy)) {
        let what = "a choice among vSwitches other than ordered, random and most; it is random";
        ignored.push(("vswitch_selection_policy", what));
    }
    let policy = keys.text("eni_selection_policy")?;
    if policy.is_some_and(|policy| !["", "most_ips", "least_ips"].contains(&policy)) {
        let what = "a choice among ENIs other than most_ips and least_ips; it is most_ips";
        ignored.push(("eni_selection_policy", what));
    }
    if keys.is_set("ipv4_prefix_count") && !keys.flag("enable_ip_prefix")? {
        ignored.push(("ipv4_prefix_count", "prefixes without enable_ip_prefix"));
    }
    if keys.is_set("trunk_local_traffic") && !keys.flag("enable_eni_trunking")? {
        ignored.push((
            "trunk_local_traffic",
            "trunk pods without enable_eni_trunking",
        ));
    }
    Ok(ignored)
}

/// What a node's own ConfigMap says over the cluster's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overlay {
    pub(crate) config_map: String,
    pub(crate) patch: Map<String, Value>,
}

/// RFC 7396: null removes, an object is merged, everything else replaces.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(patch) => {
                let slot = target.entry(key.clone()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(inner) = slot {
                    merge(inner, patch);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}
