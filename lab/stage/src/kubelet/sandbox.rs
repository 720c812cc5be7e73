//! A pod's sandbox: its network namespace, its attachment, and the program that runs in it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::cni::{self, Attachment, Chain};
use crate::node::BIN;

/// Where the pod's program listens.
const PORT: &str = "8080";
/// How long the program may take to listen, and a namespace to be made: milliseconds in fact.
const START_MAX: Duration = Duration::from_secs(20);
/// Burst of a bandwidth limit, in bits, as container runtimes pass it: no limit of its own.
const BURST: i32 = i32::MAX;

/// A sandbox, being made, running or being removed.
pub(super) struct Sandbox {
    /// The file that keeps the namespace.
    pub(super) netns: PathBuf,
    attachment: Attachment,
    record: PathBuf,
}

/// The pod's program. It ends when dropped.
pub(super) struct Container {
    process: Child,
    /// Kept open: the program may still want to say something.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Sandbox {
    /// Describes the sandbox of `pod`, a new one for every attempt; nothing is made yet.
    pub(super) fn of(pod: &Pod, attempt: u32, record: PathBuf) -> Result<Self> {
        let spec = pod.spec.as_ref().context("the pod has no spec")?;
        if spec.host_network == Some(true) {
            bail!("the lab's nodes run no pods with hostNetwork");
        }
        let chain = Chain::installed()?.context("no network configuration is installed")?;
        let meta = &pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (text(&meta.namespace), text(&meta.name));
        let uid = text(&meta.uid);
        let sandbox = id(&uid, attempt);
        let attachment = Attachment {
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
                 K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID={uid}"
            ),
            pod: format!("{namespace}/{name}"),
            capabilities: capabilities(pod)?,
            chain,
            result: None,
            sandbox,
        };
        let netns = Path::new("/run/netns").join(format!("cni-{}", &attachment.sandbox[..32]));
        Ok(Self {
            netns,
            attachment,
            record,
        })
    }

    /// Makes the namespace and attaches it.
    pub(super) async fn set_up(&mut self) -> Result<()> {
        File::create(&self.netns).context("cannot create a file for the namespace")?;
        let made = Command::new("unshare")
            .arg(format!("--net={}", self.netns.display()))
            .args(["ip", "link", "set", "lo", "up"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let made = timeout(START_MAX, made)
            .await
            .context("no namespace in time")??;
        if !made.status.success() {
            bail!(
                "cannot make a namespace: {}",
                String::from_utf8_lossy(&made.stderr)
            );
        }
        let pod = self.attachment.pod.clone();
        cni::timed(&self.record, "ADD", &pod, self.attachment.add(&self.netns)).await
    }

    /// Detaches and removes the namespace: DEL with it, and once more without, as a runtime does when
    /// a sandbox is stopped and then removed. May be repeated.
    pub(super) async fn tear_down(&self) -> Result<()> {
        let there = self.netns.exists().then_some(self.netns.as_path());
        let (record, pod) = (&self.record, &self.attachment.pod);
        cni::timed(record, "DEL", pod, self.attachment.del(there)).await?;
        if there.is_some() {
            // A file on which nothing was mounted yet is only removed.
            let _ = unmount(&self.netns, UnmountFlags::DETACH);
            fs::remove_file(&self.netns).context("cannot remove the namespace's file")?;
        }
        cni::timed(record, "DEL", pod, self.attachment.del(None)).await
    }

    /// The addresses the chain gave, without their masks.
    pub(super) fn addresses(&self) -> Vec<String> {
        let ips = self
            .attachment
            .result
            .as_ref()
            .and_then(|result| result["ips"].as_array());
        ips.into_iter()
            .flatten()
            .filter_map(|ip| Some(ip["address"].as_str()?.split('/').next()?.to_owned()))
            .collect()
    }

    /// Starts the pod's program; it serves when this returns.
    pub(super) async fn start(&self) -> Result<Container> {
        let mut process = Command::new("nsenter")
            .arg(format!("--net={}", self.netns.display()))
            .arg(format!("{BIN}/terway-probe"))
            .args(["serve", "--port", PORT, "--name", &self.attachment.pod])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run `nsenter`")?;
        let output = process
            .stdout
            .take()
            .context("the program has no standard output")?;
        let mut output = BufReader::new(output).lines();
        let line = timeout(START_MAX, output.next_line()).await;
        let line =
            line.map_err(|_| anyhow!("the program does not serve within {START_MAX:?}"))??;
        line.context("the program has ended before it served")?;
        Ok(Container {
            process,
            _output: output,
        })
    }
}

impl Container {
    /// Waits until the program has ended by itself.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = self.process.wait().await {
            tracing::warn!(%error, "cannot wait for a pod's program");
        }
    }

    /// Asks the program to end, and ends it after `grace`.
    pub(super) async fn stop(mut self, grace: Duration) {
        let pid = self
            .process
            .id()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(grace, self.process.wait()).await.is_err()
            && let Err(error) = self.process.kill().await
        {
            tracing::warn!(%error, "cannot kill a pod's program");
        }
    }
}

/// 64 hexadecimal digits, as runtimes name sandboxes; the same for the same attempt.
fn id(uid: &str, attempt: u32) -> String {
    let part = |part: u32| {
        let mut hasher = DefaultHasher::new();
        (uid, attempt, part).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(part).collect()
}

/// What the runtime knows about the pod and plugins may ask for.
fn capabilities(pod: &Pod) -> Result<BTreeMap<&'static str, Value>> {
    let mut known = BTreeMap::new();
    let annotations = pod.metadata.annotations.iter().flatten();
    let mut bandwidth = serde_json::Map::new();
    for (key, text) in annotations {
        let Some(way) = key
            .strip_prefix("kubernetes.io/")
            .and_then(|k| k.strip_suffix("-bandwidth"))
        else {
            continue;
        };
        let rate = bits(text).with_context(|| format!("annotation {key} is {text:?}"))?;
        bandwidth.insert(format!("{way}Rate"), rate.into());
        bandwidth.insert(format!("{way}Burst"), BURST.into());
    }
    if !bandwidth.is_empty() {
        known.insert("bandwidth", bandwidth.into());
    }
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mappings: Vec<Value> = ports
        .filter_map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let (host, container) = (port.host_port?, port.container_port);
            Some(json!({ "hostPort": host, "containerPort": container, "protocol": protocol }))
        })
        .collect();
    if !mappings.is_empty() {
        known.insert("portMappings", mappings.into());
    }
    Ok(known)
}

/// A Kubernetes quantity of bits per second: a whole number, with a decimal or binary suffix.
fn bits(quantity: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u64); 6] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let scaled = SUFFIXES
        .iter()
        .find_map(|(suffix, scale)| Some((quantity.strip_suffix(suffix)?, *scale)));
    let (digits, scale) = scaled.unwrap_or((quantity, 1));
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_or_refused() {
        assert_eq!(bits("10M"), Some(10_000_000));
        assert_eq!(bits("1Ki"), Some(1024));
        assert_eq!(bits("7"), Some(7));
        for bad in ["", "M", "1.5M", "-1", "1m", "99999999999G"] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sandbox_id_is_the_attempts() {
        assert_eq!(id("u", 0).len(), 64);
        assert_eq!(id("u", 0), id("u", 0));
        assert_ne!(id("u", 0), id("u", 1));
    }
}
