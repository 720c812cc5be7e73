//! The network configuration on standard input.

use std::collections::BTreeSet;

use ipnet::IpNet;
use model::{AttachmentKey, ContainerId, InterfaceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    VERSIONS,
    error::{Code, Error},
};

/// Longest configuration accepted. A conflist entry with a result of ten interfaces takes about
/// 4 KiB, a GC list of 256 attachments about 30 KiB.
pub const CONFIG_BYTES_MAX: usize = 96 * 1024;

/// Largest MTU a veth takes (drivers/net/veth.c, ETH_MAX_MTU).
const MTU_MAX: u64 = 65_535;

/// Smallest MTU IPv4 hosts must take (RFC 791, section 3.2).
const MTU_MIN: u64 = 576;

/// The configuration, as far as it concerns this mode. Keys of other modes are accepted and checked
/// where those modes are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConf {
    /// The version results and errors are written in.
    pub version: String,
    /// The network's name.
    pub name: String,
    /// MTU of pod links; zero or nothing means the node's default.
    pub mtu: Option<u32>,
    /// Networks that a pod with an ENI wholly its own reaches by the node.
    pub host_stack: Vec<IpNet>,
    /// What the runtime asks for this pod.
    pub runtime: RuntimeConfig,
    /// GC: the attachments in use.
    pub valid: BTreeSet<AttachmentKey>,
}

/// `runtimeConfig`, as far as it concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeConfig {
    /// Bits per second towards the pod, zero for no limit.
    #[serde(default)]
    pub ingress_rate: u64,
    /// Bits per second from the pod, zero for no limit.
    #[serde(default)]
    pub egress_rate: u64,
}

impl NetConf {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Code 6 for what is no JSON object of the right form, 1 for a version we do not speak, 7 for
    /// values that make no sense; each names the key and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() > CONFIG_BYTES_MAX {
            return Err(undecodable(format!(
                "the configuration is longer than {CONFIG_BYTES_MAX} bytes"
            )));
        }
        let document: Value = serde_json::from_slice(text)
            .map_err(|error| undecodable(format!("the configuration is no JSON: {error}")))?;
        let Value::Object(_) = document else {
            return Err(undecodable("the configuration is no JSON object"));
        };
        let version = string(&document, "cniVersion")?.unwrap_or_else(|| "0.1.0".to_owned());
        if !VERSIONS.contains(&version.as_str()) {
            let spoken = VERSIONS[..5].join(", ");
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!("cniVersion {version} is not spoken here"),
            )
            .with_details(format!("this plugin speaks {spoken}")));
        }
        Ok(Self {
            version,
            name: string(&document, "name")?.unwrap_or_default(),
            mtu: mtu(&document)?,
            host_stack: host_stack(&document)?,
            runtime: runtime(&document)?,
            valid: valid(&document)?,
        })
    }
}

fn undecodable(message: impl Into<String>) -> Error {
    Error::new(Code::Undecodable, message)
}

fn string(document: &Value, key: &str) -> Result<Option<String>, Error> {
    match document.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(undecodable(format!("{key} is {other}; expected a string"))),
    }
}

fn mtu(document: &Value) -> Result<Option<u32>, Error> {
    let value = match document.get("mtu") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let number = value
        .as_u64()
        .ok_or_else(|| undecodable(format!("mtu is {value}; expected a number")))?;
    match number {
        0 => Ok(None),
        MTU_MIN..=MTU_MAX => Ok(u32::try_from(number).ok()),
        _ => Err(Error::new(
            Code::InvalidConfig,
            format!("mtu is {number}; expected 0 or {MTU_MIN} to {MTU_MAX}"),
        )),
    }
}

fn host_stack(document: &Value) -> Result<Vec<IpNet>, Error> {
    const KEY: &str = "host_stack_cidrs";
    let list = match document.get(KEY) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(undecodable(format!("{KEY} is {other}; expected a list"))),
    };
    let network =
        |entry: &Value| -> Option<IpNet> { Some(entry.as_str()?.parse::<IpNet>().ok()?.trunc()) };
    let wrong = |entry: &Value| {
        let text = format!("{KEY} has {entry}; expected networks such as \"169.254.20.10/32\"");
        Error::new(Code::InvalidConfig, text)
    };
    let all = list.iter();
    all.map(|entry| network(entry).ok_or_else(|| wrong(entry)))
        .collect()
}

fn runtime(document: &Value) -> Result<RuntimeConfig, Error> {
    let Some(bandwidth) = document.pointer("/runtimeConfig/bandwidth") else {
        return Ok(RuntimeConfig::default());
    };
    let rate = |key: &str| match bandwidth.get(key) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| {
            undecodable(format!(
                "runtimeConfig.bandwidth.{key} is {value}; expected bits per second"
            ))
        }),
    };
    Ok(RuntimeConfig {
        ingress_rate: rate("ingressRate")?,
        egress_rate: rate("egressRate")?,
    })
}

/// GC's list (specification 1.1, section "GC"): `cni.dev/valid-attachments`.
fn valid(document: &Value) -> Result<BTreeSet<AttachmentKey>, Error> {
    const KEY: &str = "cni.dev/valid-attachments";
    let list = match document.get(KEY) {
        None | Some(Value::Null) => return Ok(BTreeSet::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(undecodable(format!("{KEY} is {other}; expected a list"))),
    };
    let one = |entry: &Value| -> Result<AttachmentKey, Error> {
        let text = |key: &str| {
            string(entry, key)?
                .ok_or_else(|| undecodable(format!("an entry of {KEY} has no {key}: {entry}")))
        };
        let bad = |error: model::KeyError| undecodable(format!("{KEY}: {error}"));
        Ok(AttachmentKey {
            container: ContainerId::new(text("containerID")?).map_err(bad)?,
            interface: InterfaceName::new(text("ifname")?).map_err(bad)?,
        })
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let text = r#"{"cniVersion":"1.0.0","name":"terway","type":"terway","mtu":8500,
            "host_stack_cidrs":["169.254.20.10/32"],
            "runtimeConfig":{"bandwidth":{"ingressRate":8000000,"ingressBurst":1}},
            "cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}"#;
        let conf = NetConf::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (conf.mtu, conf.runtime.ingress_rate),
            (Some(8500), 8_000_000)
        );
        assert_eq!(conf.valid.len(), 1);
    }

    #[test]
    fn every_wrong_input_has_its_code() {
        let cases: [(&str, u32); 12] = [
            ("", 6),
            ("{", 6),
            ("[]", 6),
            (r#"{"cniVersion":1}"#, 6),
            (r#"{"name":"x"}"#, 1),
            (r#"{"cniVersion":"0.2.0"}"#, 1),
            (r#"{"cniVersion":"9.9.9"}"#, 1),
            (r#"{"cniVersion":"1.0.0","mtu":"big"}"#, 6),
            (r#"{"cniVersion":"1.0.0","mtu":1}"#, 7),
            (r#"{"cniVersion":"1.0.0","host_stack_cidrs":["10.0.0"]}"#, 7),
            (
                r#"{"cniVersion":"1.1.0","cni.dev/valid-attachments":[{}]}"#,
                6,
            ),
            (
                r#"{"cniVersion":"1.1.0","cni.dev/valid-attachments":[{"containerID":"/","ifname":"eth0"}]}"#,
                6,
            ),
        ];
        for (text, code) in cases {
            assert_eq!(
                NetConf::parse(text.as_bytes()).unwrap_err().code,
                code,
                "{text}"
            );
        }
    }
}
