//! Takes an account's names out of an answer, so that it can be shown to anybody: the same name is the
//! same stand-in everywhere. What is kept is listed; everything else is replaced. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

/// Fields whose text says something about the cloud and nothing about an account.
const KEPT: [&str; 22] = [
    "Action",
    "Code",
    "CpuArchitecture",
    "CreationTime",
    "GPUSpec",
    "InstanceCategory",
    "InstanceFamilyLevel",
    "InstanceTypeFamily",
    "InstanceTypeId",
    "LocalStorageCategory",
    "NetworkInterfaceTrafficMode",
    "NvmeSupport",
    "RouteTableType",
    "Status",
    "TagKey",
    "Type",
    "Class",
    "RegionId",
    "ZoneId",
    "BurstablePerformance",
    "HttpStatus",
    "Step",
];

/// Numbers that name an account.
const NUMBERS: [&str; 2] = ["OwnerId", "ServiceID"];

/// Stand-ins given so far.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    known: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
}

impl Mask {
    /// `document` with stand-ins.
    pub(crate) fn document(&mut self, document: &Value) -> Value {
        let mut document = document.clone();
        self.value("", &mut document);
        document
    }

    fn value(&mut self, field: &str, value: &mut Value) {
        match value {
            Value::String(text) if !text.is_empty() && !KEPT.contains(&field) => {
                *text = self.stand_in(text);
            }
            Value::Number(_) if NUMBERS.contains(&field) => *value = 1.into(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(field, item)),
            Value::Object(fields) => {
                for (name, below) in fields.iter_mut() {
                    self.value(name, below);
                }
            }
            _ => {}
        }
    }

    fn stand_in(&mut self, text: &str) -> String {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let kind = kind(text);
        let count = self.counts.entry(kind.clone()).or_default();
        *count += 1;
        let stand_in = match kind.as_str() {
            // RFC 5737 and RFC 3849: addresses for documents.
            "address" => format!("192.0.2.{}", *count % 256),
            "network" => "192.0.2.0/24".into(),
            "mac" => format!("00:16:3e:00:00:{:02x}", *count % 256),
            kind => format!("{kind}-{count}"),
        };
        self.known.insert(text.to_owned(), stand_in.clone());
        stand_in
    }
}

/// What a text is: an address, or an id by its prefix.
fn kind(text: &str) -> String {
    const PREFIXES: [&str; 8] = ["eni", "vsw", "vpc", "sg", "vtb", "rg", "acl", "i"];
    if text.parse::<IpAddr>().is_ok() {
        return "address".into();
    }
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return "network".into();
    }
    if text.parse::<model::Mac>().is_ok() {
        return "mac".into();
    }
    let prefix = text.split_once('-').map_or("", |(prefix, _)| prefix);
    let known = PREFIXES.contains(&prefix);
    if known { prefix.into() } else { "text".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_an_account_survives_and_the_same_stays_the_same() {
        let answer = json!({
            "RequestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E", "OwnerId": 1_234_567_890,
            "NetworkInterfaceId": "eni-bp1secret", "MacAddress": "00:16:3e:12:34:56",
            "Type": "Secondary", "ZoneId": "cn-hangzhou-i", "Description": "payroll",
            "PrivateIpAddress": "172.16.9.9",
            "PrivateIpSets": { "PrivateIpSet": [{ "PrivateIpAddress": "172.16.9.9", "Primary": true }] },
            "Cidr": "172.16.0.0/12", "SecurityGroupIds": { "SecurityGroupId": ["sg-bp1secret"] },
            "Tags": { "Tag": [{ "TagKey": "creator", "TagValue": "payroll-team" }] } });
        let masked = Mask::default().document(&answer);
        let text = masked.to_string();
        for secret in [
            "bp1secret",
            "12:34:56",
            "172.16",
            "payroll",
            "473469C7",
            "1234567890",
        ] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        assert_eq!(masked["Type"], "Secondary");
        assert_eq!(
            masked["PrivateIpAddress"],
            masked["PrivateIpSets"]["PrivateIpSet"][0]["PrivateIpAddress"]
        );
        assert_eq!(
            super::super::shape::of(&masked),
            super::super::shape::of(&answer)
        );
    }
}
