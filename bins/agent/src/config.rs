//! `eni_conf`, the agent's part of the ConfigMap `kube-system/eni-config`: read once into types, and
//! every complaint names the key and what was expected.
//!
//! The keys are those clusters have today. A key of a feature that is not built yet is reported, not
//! silently taken.

use std::{collections::BTreeMap, path::Path, time::Duration};

use model::{InstanceLimits, SecurityGroupId, VSwitchId, ZoneId};
use serde_json::{Map, Value};

/// Rest of a released address when the configuration says nothing. kube-proxy learns of a pod's end
/// within about 30 s on a busy cluster, and a peer's SYN to the old pod is repeated for 63 s
/// (tcp_syn_retries 6) but finds no socket; a minute covers the first and most of the second.
const COOLDOWN_DEFAULT: Duration = Duration::from_secs(60);

/// Largest pool size taken: ten times the addresses of the largest instance type.
const POOL_SIZE_MAX: u64 = 10_000;

/// Security groups an ENI may have at the most (the cloud's default is 5, its maximum 10).
const SECURITY_GROUPS_MAX: usize = 10;

/// Keys of `eni_conf` that ask for something this release does not do, with what it is.
const NOT_YET: [(&str, &str); 17] = [
    ("backoff_override", "back-off by configuration"),
    ("credential_path", "encrypted credentials"),
    (
        "custom_stateful_workload_kinds",
        "addresses that stay with a StatefulSet's pod",
    ),
    ("eni_tag_block_list", "a block list of tags"),
    ("eni_tag_filter", "a tag filter"),
    ("enable_eni_trunking", "trunk ENIs"),
    ("enable_erdma", "RDMA"),
    ("enable_ip_prefix", "prefixes"),
    ("extra_routes", "extra routes"),
    ("idle_ip_reclaim_after", "idle reclaim by age"),
    (
        "ip_pool_sync_period",
        "a pool synchronised by a clock; it follows every event",
    ),
    ("ip_warm_up_size", "warm-up"),
    ("ipam_type", "addresses given out by the control plane"),
    ("min_eni", "a pool counted in ENIs"),
    ("rate_limit", "rate limits by configuration"),
    (
        "vswitch_selection_policy",
        "a choice among vSwitches other than by their order",
    ),
    ("eni_selection_policy", "a choice among ENIs"),
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
    #[error("eni_conf key {key} is {found}; expected {expected}")]
    Key {
        key: String,
        found: String,
        expected: &'static str,
    },
}

impl Settings {
    pub(crate) fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read(path).map_err(|source| SettingsError::Unreadable {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, SettingsError> {
        let document: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|error| SettingsError::NoJson(error.to_string()))?;
        let keys = Keys(&document);
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
            tags: keys.tags()?,
            idle_min,
            idle_max: idle_max.max(idle_min),
            eni_max: keys.count("max_eni", POOL_SIZE_MAX)?.unwrap_or(0),
            eni_cap_ratio: keys.number("eni_cap_ratio")?.unwrap_or(1.0),
            eni_cap_shift: keys.integer("eni_cap_shift")?.unwrap_or(0),
            resource_group: keys.text("resource_group_id")?.map(str::to_owned),
            cooldown: keys.duration("ip_cooldown")?.unwrap_or(COOLDOWN_DEFAULT),
            ignored: NOT_YET
                .into_iter()
                .filter(|(key, _)| keys.is_set(key))
                .collect(),
        })
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

fn wrong(key: impl Into<String>, found: &Value, expected: &'static str) -> SettingsError {
    let found = found.to_string();
    SettingsError::Key {
        key: key.into(),
        found: found.chars().take(120).collect(),
        expected,
    }
}

struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn is_set(&self, key: &str) -> bool {
        let unset = [
            Value::Bool(false),
            Value::from(0),
            Value::from(""),
            Value::Array(vec![]),
            Value::Object(Map::new()),
        ];
        self.get(key).is_some_and(|value| !unset.contains(value))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| wrong(key, value, "a string"))
    }

    fn count(&self, key: &str, most: u64) -> Result<Option<u32>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| *number <= most);
        let number = number.ok_or_else(|| wrong(key, value, "a whole number from 0 to 10000"))?;
        Ok(u32::try_from(number).ok())
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_i64()
            .map(Some)
            .ok_or_else(|| wrong(key, value, "a whole number"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .filter(|number| (0.0..=1000.0).contains(number));
        number
            .map(Some)
            .ok_or_else(|| wrong(key, value, "a number from 0 to 1000"))
    }

    /// A duration as Go writes it, for example `1m30s`.
    fn duration(&self, key: &str) -> Result<Option<Duration>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let parsed = value.as_str().and_then(go_duration);
        parsed
            .map(Some)
            .ok_or_else(|| wrong(key, value, "a duration such as \"60s\" or \"1m30s\""))
    }

    fn strings(&self, key: &str, value: &Value) -> Result<Vec<String>, SettingsError> {
        let expected = "a list of strings";
        let list = value
            .as_array()
            .ok_or_else(|| wrong(key, value, expected))?;
        let text = |entry: &Value| entry.as_str().map(str::to_owned);
        list.iter()
            .map(|entry| text(entry).ok_or_else(|| wrong(key, entry, expected)))
            .collect()
    }

    fn vswitches(&self) -> Result<BTreeMap<ZoneId, Vec<VSwitchId>>, SettingsError> {
        let Some(value) = self.get("vswitches") else {
            return Ok(BTreeMap::new());
        };
        let expected = "an object of zone -> list of vSwitch ids";
        let zones = value
            .as_object()
            .ok_or_else(|| wrong("vswitches", value, expected))?;
        let mut all = BTreeMap::new();
        for (zone, list) in zones {
            let key = format!("vswitches.{zone}");
            let id = ZoneId::new(zone.as_str()).map_err(|_| wrong(&key, list, expected))?;
            let ids = self.strings(&key, list)?.into_iter().map(|text| {
                VSwitchId::new(text.as_str()).map_err(|_| wrong(&key, &Value::from(text), expected))
            });
            all.insert(id, ids.collect::<Result<_, _>>()?);
        }
        Ok(all)
    }

    /// `security_group` and `security_groups` together.
    fn security_groups(&self) -> Result<Vec<SecurityGroupId>, SettingsError> {
        let mut names: Vec<String> = self
            .text("security_group")?
            .map(str::to_owned)
            .into_iter()
            .collect();
        if let Some(value) = self.get("security_groups") {
            names.extend(self.strings("security_groups", value)?);
        }
        names.retain(|name| !name.is_empty());
        let mut groups = Vec::new();
        for name in names {
            let group = SecurityGroupId::new(name.as_str())
                .map_err(|_| wrong("security_groups", &Value::from(name), "security group ids"))?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        if groups.is_empty() {
            return Err(wrong(
                "security_groups",
                &Value::Array(vec![]),
                "at least one security group id",
            ));
        }
        if groups.len() > SECURITY_GROUPS_MAX {
            let found = Value::from(groups.len());
            return Err(wrong(
                "security_groups",
                &found,
                "at most 10 security group ids",
            ));
        }
        Ok(groups)
    }

    fn tags(&self) -> Result<BTreeMap<String, String>, SettingsError> {
        let Some(value) = self.get("eni_tags") else {
            return Ok(BTreeMap::new());
        };
        let expected = "an object of tag -> value";
        let tags = value
            .as_object()
            .ok_or_else(|| wrong("eni_tags", value, expected))?;
        tags.iter()
            .map(|(tag, text)| {
                let text = text
                    .as_str()
                    .ok_or_else(|| wrong("eni_tags", text, expected))?;
                Ok((tag.clone(), text.to_owned()))
            })
            .collect()
    }
}

/// Go's duration: numbers with units from h to ms, joined (time.ParseDuration). Zero and longer only.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest == "0" {
        return Some(total);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"version":"1","vswitches":{"cn-hangzhou-i":["vsw-1","vsw-2"]},
        "security_group":"sg-1","security_groups":["sg-1","sg-2"],"min_pool_size":2,"max_pool_size":5,
        "ip_cooldown":"1m30s","eni_tags":{"team":"x"},"enable_eni_trunking":true}"#;

    #[test]
    fn the_keys_of_today_are_read() {
        let settings = Settings::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(settings.security_groups.len(), 2, "the union, once each");
        assert_eq!((settings.idle_min, settings.idle_max), (2, 5));
        assert_eq!(settings.cooldown, Duration::from_secs(90));
        assert_eq!(settings.ignored, [("enable_eni_trunking", "trunk ENIs")]);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let cases = [
            ("nonsense", "eni_conf"),
            ("[]", "eni_conf"),
            (r#"{"security_group":5}"#, "security_group"),
            (r"{}", "security_groups"),
            (
                r#"{"security_group":"sg-1","vswitches":["vsw-1"]}"#,
                "vswitches",
            ),
            (
                r#"{"security_group":"sg-1","vswitches":{"z":"vsw-1"}}"#,
                "vswitches.z",
            ),
            (
                r#"{"security_group":"sg-1","vswitches":{"z":["a b"]}}"#,
                "vswitches.z",
            ),
            (
                r#"{"security_group":"sg-1","max_pool_size":"5"}"#,
                "max_pool_size",
            ),
            (
                r#"{"security_group":"sg-1","max_pool_size":-1}"#,
                "max_pool_size",
            ),
            (
                r#"{"security_group":"sg-1","max_pool_size":1,"min_pool_size":2}"#,
                "max_pool_size",
            ),
            (r#"{"security_group":"sg-1","ip_stack":"dual"}"#, "ip_stack"),
            (
                r#"{"security_group":"sg-1","ip_cooldown":"soon"}"#,
                "ip_cooldown",
            ),
            (
                r#"{"security_group":"sg-1","eni_tags":{"a":1}}"#,
                "eni_tags",
            ),
            (
                r#"{"security_group":"sg-1","access_key":"LTAI"}"#,
                "access_secret",
            ),
            (
                r#"{"security_group":"sg-1","access_secret":"s"}"#,
                "access_key",
            ),
        ];
        for (text, key) in cases {
            let message = Settings::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(key), "{text}: {message}");
        }
    }

    #[test]
    fn the_cap_on_enis_is_the_documented_arithmetic() {
        let limits = InstanceLimits {
            enis: 8,
            ipv4_per_eni: 10,
            ipv6_per_eni: 10,
            enis_total: 8,
            trunk: false,
        };
        let cap = |text: &str| Settings::parse(text.as_bytes()).unwrap().enis_max(limits);
        assert_eq!(cap(r#"{"security_group":"sg-1"}"#), 7);
        assert_eq!(cap(r#"{"security_group":"sg-1","eni_cap_ratio":0.5}"#), 3);
        assert_eq!(cap(r#"{"security_group":"sg-1","eni_cap_shift":-2}"#), 5);
        assert_eq!(cap(r#"{"security_group":"sg-1","max_eni":2}"#), 2);
    }
}
