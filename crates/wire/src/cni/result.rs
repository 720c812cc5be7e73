//! The result of ADD, in every version a runtime may ask for.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Family, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An interface the attachment consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// The namespace it is in; none for the node.
    pub sandbox: Option<String>,
}

/// An address of the attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// The address with the vSwitch's prefix length.
    pub address: IpNet,
    /// The vSwitch's gateway.
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    pub interface: usize,
}

/// What an attachment consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddResult {
    /// Both ends of the veth, so that plugins that come after find them.
    pub interfaces: Vec<Interface>,
    /// The pod's addresses.
    pub ips: Vec<Ip>,
}

impl AddResult {
    /// The document in `version` of the specification. Versions before 1.0.0 name the family of each
    /// address; later ones do not know that key.
    pub fn document(&self, version: &str) -> String {
        let names_family = version.starts_with("0.");
        let interfaces: Vec<Value> = self
            .interfaces
            .iter()
            .map(|interface| {
                let mut entry = json!({ "name": interface.name, "mac": interface.mac.to_string() });
                if let (Some(sandbox), Some(entry)) = (&interface.sandbox, entry.as_object_mut()) {
                    entry.insert("sandbox".into(), json!(sandbox));
                }
                entry
            })
            .collect();
        let ips: Vec<Value> = self
            .ips
            .iter()
            .map(|ip| {
                let mut entry =
                    json!({ "address": ip.address.to_string(), "interface": ip.interface });
                if let Some(entry) = entry.as_object_mut() {
                    if let Some(gateway) = ip.gateway {
                        entry.insert("gateway".into(), json!(gateway.to_string()));
                    }
                    if names_family {
                        let family = match Family::of(ip.address.addr()) {
                            Family::V4 => "4",
                            Family::V6 => "6",
                        };
                        entry.insert("version".into(), json!(family));
                    }
                }
                entry
            })
            .collect();
        json!({ "cniVersion": version, "interfaces": interfaces, "ips": ips, "dns": {} })
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_form() {
        let result = AddResult {
            interfaces: vec![
                Interface {
                    name: "cali1".into(),
                    mac: Mac([2, 0, 0, 0, 0, 1]),
                    sandbox: None,
                },
                Interface {
                    name: "eth0".into(),
                    mac: Mac([2, 0, 0, 0, 0, 2]),
                    sandbox: Some("/n".into()),
                },
            ],
            ips: vec![Ip {
                address: "10.0.0.5/24".parse().unwrap(),
                gateway: Some("10.0.0.253".parse().unwrap()),
                interface: 1,
            }],
        };
        let old: Value = serde_json::from_str(&result.document("0.3.1")).unwrap();
        assert_eq!(old["ips"][0]["version"], "4");
        let new: Value = serde_json::from_str(&result.document("1.1.0")).unwrap();
        assert_eq!(new["ips"][0].get("version"), None);
        assert_eq!(new["interfaces"][0].get("sandbox"), None);
        assert_eq!(new["ips"][0]["interface"], 1);
    }
}
