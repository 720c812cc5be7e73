//! What a runtime passes in the environment.

use model::{AttachmentKey, ContainerId, InterfaceName, PodKey, PodUid};

use super::error::{Code, Error};

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach a sandbox.
    Add,
    /// Detach it.
    Del,
    /// Is it as it should be?
    Check,
    /// Can ADDs be served?
    Status,
    /// Forget all but these.
    Gc,
    /// Which versions are spoken?
    Version,
}

/// `CNI_ARGS`, as far as it concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`.
    pub pod: Option<PodKey>,
    /// `K8S_POD_UID`.
    pub uid: Option<PodUid>,
}

/// The environment of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The verb.
    pub command: Command,
    /// Sandbox and interface; STATUS, GC and VERSION have none.
    pub key: Option<AttachmentKey>,
    /// `CNI_NETNS`, if it is there and not empty.
    pub netns: Option<String>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
}

impl Environment {
    /// Reads the environment through `variable`.
    ///
    /// # Errors
    /// Code 4, naming the variable and what was expected.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let command = match set("CNI_COMMAND").as_deref() {
            Some("ADD") => Command::Add,
            Some("DEL") => Command::Del,
            Some("CHECK") => Command::Check,
            Some("STATUS") => Command::Status,
            Some("GC") => Command::Gc,
            Some("VERSION") => Command::Version,
            other => {
                return Err(wrong(
                    "CNI_COMMAND",
                    &format!("is {other:?}; expected ADD, DEL, CHECK, GC, STATUS or VERSION"),
                ));
            }
        };
        if matches!(command, Command::Status | Command::Gc | Command::Version) {
            return Ok(Self {
                command,
                key: None,
                netns: None,
                args: CniArgs::default(),
            });
        }
        let container =
            set("CNI_CONTAINERID").ok_or_else(|| wrong("CNI_CONTAINERID", "is not set"))?;
        let interface = set("CNI_IFNAME").ok_or_else(|| wrong("CNI_IFNAME", "is not set"))?;
        let key = AttachmentKey {
            container: ContainerId::new(container)
                .map_err(|error| wrong("CNI_CONTAINERID", &error.to_string()))?,
            interface: InterfaceName::new(interface)
                .map_err(|error| wrong("CNI_IFNAME", &error.to_string()))?,
        };
        let netns = set("CNI_NETNS");
        if netns.is_none() && command != Command::Del {
            return Err(wrong(
                "CNI_NETNS",
                "is not set; only DEL works without a namespace",
            ));
        }
        let args = CniArgs::parse(&set("CNI_ARGS").unwrap_or_default())?;
        Ok(Self {
            command,
            key: Some(key),
            netns,
            args,
        })
    }
}

impl CniArgs {
    /// Reads `KEY=VALUE;KEY=VALUE`. Keys that are not ours are left alone: runtimes set
    /// `IgnoreUnknown=1`, and what we do not know does not concern us.
    fn parse(text: &str) -> Result<Self, Error> {
        let (mut namespace, mut name, mut uid) = (None, None, None);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(
                    "CNI_ARGS",
                    &format!("holds {pair:?}, which is no KEY=VALUE"),
                ));
            };
            match key {
                "K8S_POD_NAMESPACE" => namespace = Some(value),
                "K8S_POD_NAME" => name = Some(value),
                "K8S_POD_UID" if !value.is_empty() => uid = Some(value),
                _ => {}
            }
        }
        let bad = |error: model::KeyError| wrong("CNI_ARGS", &error.to_string());
        let pod = match (namespace, name) {
            (Some(namespace), Some(name)) => Some(PodKey::new(namespace, name).map_err(bad)?),
            _ => None,
        };
        Ok(Self {
            pod,
            uid: uid.map(PodUid::new).transpose().map_err(bad)?,
        })
    }
}

fn wrong(variable: &str, what: &str) -> Error {
    Error::new(Code::InvalidEnvironment, format!("{variable} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Environment, Error> {
        Environment::parse(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    const ADD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/x"),
        (
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_UID=u-1",
        ),
    ];

    #[test]
    fn a_runtimes_environment_is_read() {
        let env = parse(&ADD).unwrap();
        assert_eq!(env.args.pod, Some(PodKey::new("ns", "web").unwrap()));
        assert_eq!(env.args.uid.unwrap().as_str(), "u-1");
        assert_eq!(env.netns.as_deref(), Some("/run/netns/x"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_code_4() {
        for (at, name) in [
            (0, "CNI_COMMAND"),
            (1, "CNI_CONTAINERID"),
            (2, "CNI_IFNAME"),
            (3, "CNI_NETNS"),
        ] {
            let mut pairs = ADD.to_vec();
            pairs.remove(at);
            let error = parse(&pairs).unwrap_err();
            assert_eq!(error.code, 4);
            assert!(error.message.contains(name), "{error}");
        }
        for (name, value) in [
            ("CNI_CONTAINERID", "../x"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_ARGS", "junk"),
        ] {
            let pairs: Vec<_> = ADD
                .into_iter()
                .filter(|(key, _)| *key != name)
                .chain([(name, value)])
                .collect();
            assert_eq!(parse(&pairs).unwrap_err().code, 4, "{name}={value}");
        }
    }

    #[test]
    fn del_works_without_a_namespace() {
        let pairs = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", ""),
        ];
        assert_eq!(parse(&pairs).unwrap().netns, None);
    }
}
