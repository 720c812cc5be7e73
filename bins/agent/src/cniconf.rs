//! The CNI configuration on the node: put where the container runtime looks for it once the agent
//! serves, whole or not at all, and put back when somebody takes it away.
//!
//! Once it is there kubelet calls the node ready, so it comes last.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{
    cause::chain,
    health::{Health, Part},
    notices::Notices,
};

/// Keys of ConfigMap `eni-config` that hold it: a chain, or a single plugin as older clusters have it.
const CHAIN_KEY: &str = "10-terway.conflist";
const SINGLE_KEY: &str = "10-terway.conf";

/// How often it is looked at: kubelet brings a changed ConfigMap within a minute, and a node whose
/// configuration was deleted must not stay without for longer than pods notice.
const PERIOD: Duration = Duration::from_secs(2);

/// Why it is not in place.
#[derive(Debug, thiserror::Error)]
enum ChainError {
    #[error(
        "ConfigMap kube-system/eni-config has neither key {CHAIN_KEY} nor {SINGLE_KEY}; one of them must name plugin type terway"
    )]
    Missing,
    #[error("key {key} of ConfigMap kube-system/eni-config is {found}; expected {expected}")]
    Wrong {
        key: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("writing {path}")]
    Write {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("listing {path}")]
    List {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path} sorts before {CHAIN_KEY}, so the container runtime uses it and pods get no VPC address; remove it from the node"
    )]
    Other { path: String },
}

/// Who keeps it.
pub(crate) struct Keeper {
    /// The directory with the keys of the ConfigMap.
    pub(crate) source: PathBuf,
    /// The directory where the container runtime looks.
    pub(crate) target: PathBuf,
    /// What it asked for as pod links when the agent started.
    pub(crate) asked: Asked,
    pub(crate) health: Arc<Health>,
    pub(crate) notices: Notices,
}

impl Keeper {
    /// Keeps the configuration in the target as the files beside `eni_conf` say, for ever.
    pub(crate) async fn run(self) {
        let (mut said, mut restart) = (None, None);
        loop {
            let complaint = self.look();
            if complaint != said {
                let texts = complaint.iter();
                texts.for_each(|text| self.notices.config_error(text));
                said = complaint;
            }
            let now = asked(&self.source).filter(|now| *now != self.asked);
            if now != restart {
                if now.is_some() {
                    self.notices.restart_needed(LINKS_CHANGED);
                }
                restart = now;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Puts it in place; says what is wrong.
    fn look(&self) -> Option<String> {
        match place(&self.source, &self.target) {
            Ok(written) => {
                if written {
                    let directory = self.target.display();
                    tracing::info!(%directory, "the CNI configuration is in place");
                }
                self.health.stands(Part::Chain);
                other_link(&self.source)
            }
            Err(error) => {
                let text = chain(&error);
                self.health.lacks(Part::Chain, text.as_str());
                Some(text)
            }
        }
    }
}

/// Puts the configuration in place unless it is there; says whether it had to.
fn place(source: &Path, target: &Path) -> Result<bool, ChainError> {
    let wanted = wanted(source)?;
    let path = target.join(CHAIN_KEY);
    let there = fs::read(&path).is_ok_and(|there| there == wanted.as_bytes());
    if !there {
        let draft = target.join(format!(".{CHAIN_KEY}.draft"));
        let written = fs::write(&draft, &wanted).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|source| ChainError::Write {
            path: path.display().to_string(),
            source,
        })?;
    }
    // The single form of an earlier installation would be found second, and confuse whoever reads it.
    let _ = fs::remove_file(target.join(SINGLE_KEY));
    match first_other(target)? {
        Some(other) => Err(ChainError::Other { path: other }),
        None => Ok(!there),
    }
}

/// Whether our plugin's part of the chain has `key` as false. What cannot be read says nothing here; who
/// places it complains.
pub(crate) fn declines(source: &Path, key: &str) -> bool {
    ours(source).iter().any(|plugin| plugin[key] == false)
}

/// Our plugin's part of the chain, as often as it is in it. Nothing of what cannot be read.
fn ours(source: &Path) -> Vec<Value> {
    let document = wanted(source).unwrap_or_default();
    let mut document: Value = serde_json::from_str(&document).unwrap_or_default();
    let plugins = document["plugins"].as_array_mut().map(std::mem::take);
    let mut plugins = plugins.unwrap_or_default();
    plugins.retain(|plugin| plugin["type"] == "terway");
    plugins
}

/// The key that chooses how pods are joined to the node; in the Go Terway it is read by the plugin.
const LINK_KEY: &str = "eniip_virtual_type";
/// Networks that pods on ipvlan reach by the node. The plugin refuses an ADD with one that is none.
const HOST_STACK_KEY: &str = "host_stack_cidrs";
const LINKS_CHANGED: &str = "key eniip_virtual_type or host_stack_cidrs of the CNI configuration changed; for pods on \
    ipvlan they are read when the agent starts: delete its pod on this node to take them up";

/// What our plugin's part of the chain asks for as pod links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// New pods are to be on ipvlan.
    pub(crate) ipvlan: bool,
    /// What such pods are to reach by the node; nothing where none is asked for.
    pub(crate) by_host: Vec<IpNet>,
}

/// What is asked for; nothing when the chain cannot be read.
pub(crate) fn asked(source: &Path) -> Option<Asked> {
    wanted(source).ok()?;
    let plugins = ours(source);
    let is = |plugin: &Value| plugin[LINK_KEY].as_str().map(str::to_ascii_lowercase);
    let ipvlan = plugins
        .iter()
        .any(|plugin| is(plugin).as_deref() == Some("ipvlan"));
    let lists = plugins.iter().filter(|_| ipvlan);
    let lists = lists.filter_map(|plugin| plugin[HOST_STACK_KEY].as_array());
    let texts = lists.flatten().filter_map(Value::as_str);
    let by_host = texts.filter_map(|text| text.parse().ok()).collect();
    Some(Asked { ipvlan, by_host })
}

/// What to say when our plugin's part of the chain asks for pod links that nobody knows.
fn other_link(source: &Path) -> Option<String> {
    let plugins = ours(source);
    let mut asked = plugins.iter().map(|plugin| &plugin[LINK_KEY]);
    asked.find_map(
        |value| match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            None if value.is_null() => None,
            Some("" | "veth" | "datapathv2" | "ipvlan") => None,
            _ => Some(format!(
                "key {LINK_KEY} of the CNI configuration is {value}; expected \"veth\", \"ipvlan\" or \
                 \"datapathv2\", pods get veth links"
            )),
        },
    )
}

/// The chain the ConfigMap asks for.
fn wanted(source: &Path) -> Result<String, ChainError> {
    let read = |key: &'static str| Some((key, fs::read_to_string(source.join(key)).ok()?));
    let (key, text) = read(CHAIN_KEY)
        .or_else(|| read(SINGLE_KEY))
        .ok_or(ChainError::Missing)?;
    let wrong = |expected| {
        let found = text.trim().chars().take(200).collect();
        ChainError::Wrong {
            key,
            found,
            expected,
        }
    };
    let mut document: Value = serde_json::from_str(&text).map_err(|_| wrong("a JSON object"))?;
    if key == SINGLE_KEY {
        let version = document["cniVersion"].take();
        let version = version.as_str().unwrap_or("0.4.0").to_owned();
        document =
            json!({ "cniVersion": version, "name": "terway-chainer", "plugins": [document] });
        if let Some(plugin) = document
            .pointer_mut("/plugins/0")
            .and_then(Value::as_object_mut)
        {
            plugin.remove("cniVersion");
            plugin.remove("name");
        }
    }
    let plugins = document["plugins"].as_array().map(Vec::as_slice);
    let ours = plugins
        .unwrap_or_default()
        .iter()
        .any(|plugin| plugin["type"] == "terway");
    if !ours {
        return Err(wrong("a plugin with \"type\": \"terway\""));
    }
    serde_json::to_string_pretty(&document).map_err(|_| wrong("a JSON object"))
}

/// A configuration of somebody else that the container runtime finds before ours: it takes the first
/// by name (libcni, `ConfFiles`).
fn first_other(target: &Path) -> Result<Option<String>, ChainError> {
    let listed = fs::read_dir(target).map_err(|source| ChainError::List {
        path: target.display().to_string(),
        source,
    })?;
    let names = listed
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let configuration = |name: &String| {
        let extension = Path::new(name)
            .extension()
            .and_then(|extension| extension.to_str());
        matches!(extension, Some("conf" | "conflist" | "json"))
    };
    let first = names
        .filter(configuration)
        .min()
        .filter(|name| name.as_str() < CHAIN_KEY);
    Ok(first.map(|name| target.join(name).display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = r#"{"cniVersion":"0.4.0","name":"terway-chainer","plugins":[{"type":"terway"},{"type":"portmap"}]}"#;

    fn rig() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (source, target) = (directory.path().join("eni"), directory.path().join("net.d"));
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(&target).unwrap();
        (directory, source, target)
    }

    #[test]
    fn it_is_written_once_and_put_back() {
        let (_held, source, target) = rig();
        fs::write(source.join(CHAIN_KEY), CHAIN).unwrap();
        fs::write(target.join(SINGLE_KEY), "{}").unwrap();
        assert!(place(&source, &target).unwrap());
        assert!(!place(&source, &target).unwrap());
        assert!(!target.join(SINGLE_KEY).exists());
        fs::remove_file(target.join(CHAIN_KEY)).unwrap();
        assert!(place(&source, &target).unwrap());
    }

    #[test]
    fn a_single_plugin_becomes_a_chain() {
        let (_held, source, target) = rig();
        let single = r#"{"cniVersion":"0.3.1","name":"terway","type":"terway","mtu":1400}"#;
        fs::write(source.join(SINGLE_KEY), single).unwrap();
        place(&source, &target).unwrap();
        let text = fs::read_to_string(target.join(CHAIN_KEY)).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({ "cniVersion": "0.3.1", "name": "terway-chainer",
            "plugins": [{ "type": "terway", "mtu": 1400 }] });
        assert_eq!(document, expected);
    }

    #[test]
    fn only_a_false_of_our_own_plugin_declines() {
        let (_held, source, _) = rig();
        assert!(!declines(&source, "k"));
        for (plugin, declined) in [
            (r#""type":"terway""#, false),
            (r#""type":"terway","k":true"#, false),
            (r#""type":"terway","k":false"#, true),
            (r#""type":"other","k":false},{"type":"terway""#, false),
        ] {
            let text = format!("{{\"plugins\":[{{{plugin}}}]}}");
            fs::write(source.join(CHAIN_KEY), text).unwrap();
            assert_eq!(declines(&source, "k"), declined, "{plugin}");
        }
    }

    #[test]
    fn a_link_that_nobody_knows_is_said_and_ipvlan_is_asked_for_whatever_the_case() {
        let (_held, source, _) = rig();
        for (key, said) in [
            ("", None),
            (r#","eniip_virtual_type":"Veth""#, None),
            (r#","eniip_virtual_type":"datapathv2""#, None),
            (r#","eniip_virtual_type":"IPVlan""#, None),
            (
                r#","eniip_virtual_type":"macvlan""#,
                Some("expected \"veth\""),
            ),
            (r#","eniip_virtual_type":true"#, Some("is true; expected")),
        ] {
            let text = format!(r#"{{"plugins":[{{"type":"terway"{key}}}]}}"#);
            fs::write(source.join(CHAIN_KEY), text).unwrap();
            let found = other_link(&source);
            assert_eq!(found.is_some(), said.is_some(), "{key}: {found:?}");
            assert!(
                found.unwrap_or_default().contains(said.unwrap_or_default()),
                "{key}"
            );
            let asked = asked(&source).unwrap();
            assert_eq!(asked.ipvlan, key.contains("IPVlan"), "{key}");
        }
        let text = r#"{"type":"terway","eniip_virtual_type":"ipvlan",
            "host_stack_cidrs":["169.254.20.10/32","fd00::/8","nonsense"]}"#;
        fs::remove_file(source.join(CHAIN_KEY)).unwrap();
        assert_eq!(asked(&source), None, "what is not there asks for nothing");
        fs::write(source.join(SINGLE_KEY), text).unwrap();
        let nets = ["169.254.20.10/32", "fd00::/8"].map(|net| net.parse().unwrap());
        let expected = Asked {
            ipvlan: true,
            by_host: nets.into(),
        };
        assert_eq!(asked(&source), Some(expected));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (_held, source, target) = rig();
        let complaint = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(source.join(CHAIN_KEY), text).unwrap();
            }
            chain(&place(&source, &target).unwrap_err())
        };
        assert!(complaint(None).contains("neither key"));
        assert!(complaint(Some("no json")).contains("expected a JSON object"));
        assert!(complaint(Some(r#"{"plugins":[{"type":"flannel"}]}"#)).contains("\"terway\""));
        assert!(
            !target.join(CHAIN_KEY).exists(),
            "bad input changes nothing"
        );
        fs::write(target.join("05-other.conflist"), "{}").unwrap();
        assert!(complaint(Some(CHAIN)).contains("05-other.conflist sorts before"));
        fs::rename(
            target.join("05-other.conflist"),
            target.join("99-other.conflist"),
        )
        .unwrap();
        place(&source, &target).unwrap();
    }
}
