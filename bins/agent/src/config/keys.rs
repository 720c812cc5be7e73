//! Reading single keys of `eni_conf` into types: what is not of the form a key must have is refused with
//! the key, what stands there and what was expected.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine::node::{Api, Reclaim};
use ipnet::{IpNet, Ipv4Net};
use model::{SecurityGroupId, VSwitchId, ZoneId};
use serde_json::{Map, Value};

use super::SettingsError;

/// Security groups an ENI may have at the most (the cloud's default is 5, its maximum 10).
const SECURITY_GROUPS_MAX: usize = 10;

/// What idle reclaim does once it is switched on and nothing else is said.
const RECLAIM_BATCH: u32 = 5;
const RECLAIM_INTERVAL: Duration = Duration::from_secs(600);
const RECLAIM_JITTER: f64 = 0.1;

/// Calls a minute of one API that may be asked for: the cloud's own limits are below a thousand.
const CALLS_MAX: u64 = 10_000;

pub(super) fn wrong(
    key: impl Into<String>,
    found: &Value,
    expected: &'static str,
) -> SettingsError {
    let found = found.to_string();
    SettingsError::Key {
        key: key.into(),
        found: found.chars().take(120).collect(),
        expected,
    }
}

pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        let unset = [
            Value::Bool(false),
            Value::from(0),
            Value::from(""),
            Value::Array(vec![]),
            Value::Object(Map::new()),
        ];
        self.get(key).is_some_and(|value| !unset.contains(value))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| wrong(key, value, "a string"))
    }

    pub(super) fn count(&self, key: &str, most: u64) -> Result<Option<u32>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| *number <= most);
        let number = number.ok_or_else(|| wrong(key, value, "a whole number from 0 to 10000"))?;
        Ok(u32::try_from(number).ok())
    }

    /// A block of IPv4 addresses.
    pub(super) fn network(&self, key: &str) -> Result<Option<Ipv4Net>, SettingsError> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let network = text.parse::<Ipv4Net>().map(|network| network.trunc());
        let expected = "a network such as \"172.16.0.0/16\"";
        let network = network.map_err(|_| wrong(key, &Value::from(text), expected))?;
        Ok(Some(network))
    }

    /// True or false; false when it is not there.
    pub(super) fn flag(&self, key: &str) -> Result<bool, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(false);
        };
        value
            .as_bool()
            .ok_or_else(|| wrong(key, value, "true or false"))
    }

    pub(super) fn integer(&self, key: &str) -> Result<Option<i64>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_i64()
            .map(Some)
            .ok_or_else(|| wrong(key, value, "a whole number"))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, SettingsError> {
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
    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, SettingsError> {
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

    pub(super) fn vswitches(&self) -> Result<BTreeMap<ZoneId, Vec<VSwitchId>>, SettingsError> {
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
    pub(super) fn security_groups(&self) -> Result<Vec<SecurityGroupId>, SettingsError> {
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

    /// `service_cidr`: networks with commas between them.
    pub(super) fn services(&self) -> Result<Vec<IpNet>, SettingsError> {
        let key = "service_cidr";
        let text = self.text(key)?.unwrap_or_default();
        let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let expected = "networks with commas between them, such as \"10.96.0.0/16\"";
        all.map(|one| match one.parse::<IpNet>() {
            Ok(net) => Ok(net.trunc()),
            Err(_) => Err(wrong(key, &Value::from(text), expected)),
        })
        .collect()
    }

    /// `idle_ip_reclaim_*`; nothing without `idle_ip_reclaim_after`.
    pub(super) fn reclaim(&self) -> Result<Option<Reclaim>, SettingsError> {
        let Some(after) = self.duration("idle_ip_reclaim_after")? else {
            return Ok(None);
        };
        let key = "idle_ip_reclaim_jitter_factor";
        let jitter = match self.text(key)? {
            None => RECLAIM_JITTER,
            Some(text) => text
                .parse()
                .ok()
                .filter(|factor| (0.0..=10.0).contains(factor))
                .ok_or_else(|| {
                    wrong(
                        key,
                        &Value::from(text),
                        "a number from 0 to 10 as a string, such as \"0.1\"",
                    )
                })?,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 10,000"
        )]
        let jitter_per_mille = (jitter * 1000.0) as u32;
        let batch = self.count("idle_ip_reclaim_batch_size", CALLS_MAX)?;
        let interval = self.duration("idle_ip_reclaim_interval")?;
        Ok(Some(Reclaim {
            after,
            batch: batch.filter(|batch| *batch > 0).unwrap_or(RECLAIM_BATCH),
            interval: interval.unwrap_or(RECLAIM_INTERVAL),
            jitter_per_mille,
        }))
    }

    /// `eni_tag_block_list`: a list of objects with `key` and `value`.
    pub(super) fn tag_blocks(&self) -> Result<BTreeSet<(String, String)>, SettingsError> {
        let key = "eni_tag_block_list";
        let Some(value) = self.get(key) else {
            return Ok(BTreeSet::new());
        };
        let expected = "a list of {\"key\": ..., \"value\": ...}";
        let list = value
            .as_array()
            .ok_or_else(|| wrong(key, value, expected))?;
        let tag = |entry: &Value| {
            let part = |name| entry.get(name)?.as_str().map(str::to_owned);
            part("key").zip(part("value"))
        };
        list.iter()
            .map(|entry| tag(entry).ok_or_else(|| wrong(key, entry, expected)))
            .collect()
    }

    /// `custom_stateful_workload_kinds`, in small letters.
    pub(super) fn sticky_kinds(&self) -> Result<BTreeSet<String>, SettingsError> {
        let key = "custom_stateful_workload_kinds";
        let kinds = match self.get(key) {
            None => Vec::new(),
            Some(value) => self.strings(key, value)?,
        };
        Ok(kinds.iter().map(|kind| kind.to_lowercase()).collect())
    }

    /// `rate_limit`: calls a minute by API; the empty name is every other one. Names of calls the agent
    /// does not make are the control plane's business.
    pub(super) fn rate_limit(&self) -> Result<(Option<u32>, BTreeMap<Api, u32>), SettingsError> {
        let key = "rate_limit";
        let Some(value) = self.get(key) else {
            return Ok((None, BTreeMap::new()));
        };
        let expected = "an object of API name -> calls a minute, from 1 to 10000";
        let limits = value
            .as_object()
            .ok_or_else(|| wrong(key, value, expected))?;
        let (mut every, mut each) = (None, BTreeMap::new());
        for (name, value) in limits {
            let calls = value
                .as_u64()
                .filter(|calls| (1..=CALLS_MAX).contains(calls));
            let calls = calls.and_then(|calls| u32::try_from(calls).ok());
            let calls = calls.ok_or_else(|| wrong(format!("{key}.{name}"), value, expected))?;
            if name.is_empty() {
                every = Some(calls);
            } else if let Some(api) = Api::ALL.into_iter().find(|api| api.name() == name) {
                each.insert(api, calls);
            }
        }
        Ok((every, each))
    }

    /// An object of tag -> value.
    pub(super) fn tags(&self, key: &str) -> Result<BTreeMap<String, String>, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(BTreeMap::new());
        };
        let expected = "an object of tag -> value";
        let tags = value
            .as_object()
            .ok_or_else(|| wrong(key, value, expected))?;
        tags.iter()
            .map(|(tag, text)| {
                let text = text.as_str().ok_or_else(|| wrong(key, text, expected))?;
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
