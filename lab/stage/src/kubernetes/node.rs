//! A node with a real kubelet: containerd, its images, kubelet and kube-proxy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    flags,
    release::Release,
    site::{FILES, KUBELET_LINE},
    supervise::{self, Program, Supervisor},
};
use crate::{
    node::{IMAGES, KUBERNETES, LAB},
    tool,
};

/// The program whose process is called the agent's.
pub(crate) const AGENT: &str = "terwayd";
/// The control plane of trunk pods: its program, and the object it is installed by.
pub(crate) const CONTROL_PLANE: &str = "terway-controlplane";
/// Plugins that a node's image brings, beside the one under test: the reference plugins.
const PLUGINS: &str = "/usr/lib/cni";
const PLUGIN_DIR: &str = "/opt/cni/bin";
/// An address of link-local metadata that this cloud does not have; a kubelet's credential providers
/// of other clouds wait for it.
const FOREIGN_METADATA: &str = "169.254.169.254";
/// How often is looked whether containerd serves.
const POLL: Duration = Duration::from_millis(100);
/// The namespace of containerd that the runtime interface uses.
const NAMESPACE: &str = "k8s.io";

/// The programs of a node.
pub(crate) struct Node {
    name: String,
    supervisor: Arc<Supervisor>,
    release: Release,
}

impl Node {
    /// Starts them. Only what can be said at once is an error; the rest is in the logs.
    ///
    /// # Errors
    /// When the region did not prepare this node.
    pub(crate) fn boot(name: &str) -> Result<Self> {
        tool::run(&format!("ip route add unreachable {FOREIGN_METADATA}/32"))?;
        let node = Self {
            name: name.to_owned(),
            supervisor: Supervisor::new(),
            release: Release::at(Path::new(KUBERNETES))?,
        };
        node.install_plugins()?;
        let line = Path::new(FILES).join(KUBELET_LINE);
        let line =
            fs::read_to_string(&line).with_context(|| format!("cannot read {}", line.display()))?;
        let line = line.lines().map(str::to_owned).collect();
        let config = format!("{FILES}/containerd.toml");
        node.keep("containerd", vec!["--config".into(), config]);
        let kubelet = node.program("kubelet", line);
        let proxy = node.program("kube-proxy", flags::kube_proxy(name, Path::new(FILES)));
        let (supervisor, path) = (Arc::clone(&node.supervisor), node.release.path());
        tokio::spawn(async move {
            while let Err(error) = import_images(&path).await {
                tracing::warn!(error = format!("{error:#}"), "the images are not there yet");
                sleep(POLL).await;
            }
            supervisor.keep(kubelet);
            supervisor.keep(proxy);
        });
        Ok(node)
    }

    fn keep(&self, name: &'static str, arguments: Vec<String>) {
        self.supervisor.keep(self.program(name, arguments));
    }

    fn program(&self, name: &'static str, arguments: Vec<String>) -> Program {
        Program {
            name,
            arguments,
            path: self.release.path(),
            log: PathBuf::from(format!("{LAB}/logs/{}-{name}.log", self.name)),
        }
    }

    /// Puts the plugins of the node's image where the runtime looks for them.
    fn install_plugins(&self) -> Result<()> {
        for entry in fs::read_dir(PLUGINS).with_context(|| {
            format!("cannot read {PLUGINS}: run `apt-get install containernetworking-plugins`")
        })? {
            let plugin = entry?;
            let target = Path::new(PLUGIN_DIR).join(plugin.file_name());
            std::os::unix::fs::symlink(plugin.path(), &target)
                .with_context(|| format!("cannot link {}", target.display()))?;
        }
        Ok(())
    }

    /// The agent's process, as this node numbers it, and the programs that the node itself keeps.
    pub(crate) fn agent(&self) -> Value {
        json!({ "pid": processes(AGENT).first(), "programs": self.supervisor.describe() })
    }

    /// Kills a program that runs here, kept by the node or in a container.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn kill(&self, component: &str) -> Result<Value> {
        if component != AGENT {
            return self.supervisor.kill(component);
        }
        match processes(AGENT).first() {
            Some(pid) => supervise::kill(*pid).context("cannot kill the agent"),
            None => bail!("the agent does not run at this moment"),
        }
    }

    /// The network namespace of a pod, as a file that this node sees.
    ///
    /// # Errors
    /// When the runtime has no sandbox of it that runs.
    pub(crate) fn netns(&self, namespace: &str, name: &str) -> Result<Value> {
        let labels = [
            ("io.kubernetes.pod.namespace", namespace),
            ("io.kubernetes.pod.name", name),
            ("io.cri-containerd.kind", "sandbox"),
        ];
        let filter = labels.map(|(label, value)| format!("labels.\"{label}\"==\"{value}\""));
        let path = self.release.path();
        let found = ctr(&path, &["containers", "list", "--quiet", &filter.join(",")])?;
        let tasks = ctr(&path, &["tasks", "list"])?;
        let running = tasks.lines().find_map(|line| {
            // TASK PID STATUS
            let mut words = line.split_whitespace();
            let (id, pid, status) = (words.next()?, words.next()?, words.next()?);
            (status == "RUNNING" && found.lines().any(|sandbox| sandbox == id)).then_some(pid)
        });
        match running {
            Some(pid) => Ok(format!("/proc/{pid}/ns/net").into()),
            None => bail!("pod {namespace}/{name} has no sandbox"),
        }
    }
}

/// Loads every archive of images into containerd, once it serves.
async fn import_images(path: &str) -> Result<()> {
    while ctr(path, &["version"]).is_err() {
        sleep(POLL).await;
    }
    for entry in fs::read_dir(IMAGES).with_context(|| format!("cannot read {IMAGES}"))? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|end| end == "tar") {
            ctr(path, &["images", "import", &archive.to_string_lossy()])?;
        }
    }
    Ok(())
}

/// Asks containerd by its own client. Blocks for as long as that takes.
fn ctr(path: &str, arguments: &[&str]) -> Result<String> {
    let mut ctr = Command::new("ctr");
    ctr.env("PATH", path);
    ctr.args(["--address", flags::CONTAINERD, "--namespace", NAMESPACE]);
    ctr.args(arguments);
    tool::output(&format!("ctr {}", arguments.join(" ")), ctr)
}

/// Processes on this node whose program is called `name`.
fn processes(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let called = |pid: u32| {
        let said = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (said.trim() == name).then_some(pid)
    };
    entries
        .filter_map(|entry| called(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}
