//! The agent as the cluster runs it: its container's view of the node, its capabilities, its files,
//! its environment; and started again whenever it dies.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::{BIN, LAB};
use crate::region;

/// First and longest pause before the agent is started again, and how long it must have run to begin
/// with the first once more. A kubelet begins at 10 s; the lab has no time for that.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(10);
/// How often is looked whether the agent serves.
const POLL: Duration = Duration::from_millis(20);
/// After how long without a serving agent the log says so, again and again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the agent serves the plugin.
const SOCKET: &str = "/var/run/eni/terway.sock";
/// The chain in the ConfigMap, and its name on the node.
const CONFLIST: &str = "10-terway.conflist";

/// The agent's container: mounts of its own in which the pods' namespaces are not to be seen, the
/// ConfigMap at its place, and the capabilities its manifest asks for.
const CONTAINER: &str = "set -e
umount --recursive --lazy /run/netns
mount -t tmpfs none /run/netns
mount --bind /run/lab/node/eni-config /etc/eni
exec setpriv --inh-caps=-all --bounding-set=-all,+net_admin,+dac_override \"$@\"";

/// The agent of this node.
#[derive(Debug, Default)]
pub(super) struct Agent(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pid: Option<u32>,
    starts: u32,
}

impl Agent {
    /// Its process, as this node numbers it, and how often it was started again.
    pub(super) fn describe(&self) -> Value {
        let state = self.lock();
        json!({ "pid": state.pid, "restarts": state.starts.saturating_sub(1) })
    }

    /// Kills it without warning.
    pub(super) fn kill(&self) -> Result<Value> {
        let pid = self.lock().pid;
        let pid = pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let pid = pid.ok_or_else(|| anyhow!("the agent does not run at this moment"))?;
        kill_process(pid, Signal::KILL).context("cannot kill the agent")?;
        Ok(json!({ "killed": pid.as_raw_nonzero().get() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the agent running, for ever.
pub(super) async fn supervise(agent: Arc<Agent>, client: Client, node: String) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let outcome = run(&agent, &client, &node).await;
        agent.lock().pid = None;
        tracing::warn!(
            outcome = format!("{outcome:?}"),
            ?pause,
            "the agent has ended"
        );
        if began.elapsed() >= STEADY {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Runs the agent once.
async fn run(agent: &Agent, client: &Client, node: &str) -> Result<std::process::ExitStatus> {
    mount_config(client).await?;
    let mut child = start(node)?;
    {
        let mut state = agent.lock();
        state.pid = child.id();
        state.starts += 1;
    }
    child.wait().await.context("cannot wait for the agent")
}

/// Writes the ConfigMap's files as a kubelet does before it starts the container.
async fn mount_config(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps
        .get("eni-config")
        .await
        .context("cannot read kube-system/eni-config")?;
    let directory = Path::new(LAB).join("node/eni-config");
    fs::create_dir_all(&directory)?;
    for (key, text) in map.data.unwrap_or_default() {
        fs::write(directory.join(key), text)?;
    }
    let kubeconfig = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Config\",\"current-context\":\"node\",\
         \"clusters\":[{{\"name\":\"node\",\"cluster\":{{\"server\":\"{}\"}}}}],\
         \"users\":[{{\"name\":\"node\",\"user\":{{}}}}],\
         \"contexts\":[{{\"name\":\"node\",\"context\":{{\"cluster\":\"node\",\"user\":\"node\"}}}}]}}",
        region::kubernetes_url()
    );
    Ok(fs::write(
        Path::new(LAB).join("node/kubeconfig"),
        kubeconfig,
    )?)
}

fn start(node: &str) -> Result<Child> {
    let log = format!("{LAB}/logs/{node}-terwayd.log");
    let log = File::options().create(true).append(true).open(&log)?;
    let endpoint = region::OPENAPI.to_string();
    Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            // A pod sees its own processes only: the plugin that calls has no number in there.
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            CONTAINER,
            "sh",
        ])
        .arg(format!("{BIN}/terwayd"))
        .args(["--config", "/etc/eni/eni_conf"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("NODE_NAME", node)
        .env("POD_NAMESPACE", "kube-system")
        .env("KUBECONFIG", format!("{LAB}/node/kubeconfig"))
        .env("ECS_ENDPOINT", &endpoint)
        .env("VPC_ENDPOINT", &endpoint)
        .env("ALICLOUD_CLIENT_SCHEME", "HTTP")
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run `unshare`")
}

/// Installs plugin and chain once the agent serves, as its manifest's containers do.
pub(super) async fn install_plugin() -> Result<()> {
    place(
        &Path::new(BIN).join("terway"),
        Path::new("/opt/cni/bin/terway"),
    )?;
    let (began, mut said) = (Instant::now(), 0);
    while !serves() {
        let quiet = began.elapsed().as_secs() / PATIENCE.as_secs();
        if quiet > said {
            said = quiet;
            tracing::warn!(waited = ?began.elapsed(), "nobody serves {SOCKET} yet");
        }
        sleep(POLL).await;
    }
    let chain = Path::new(LAB).join("node/eni-config").join(CONFLIST);
    place(&chain, &Path::new("/etc/cni/net.d").join(CONFLIST))
}

/// Copies a file to where others look for it: they find it whole or not at all.
fn place(source: &Path, target: &Path) -> Result<()> {
    let draft = target.with_extension("draft");
    fs::copy(source, &draft)
        .and_then(|_| fs::rename(&draft, target))
        .with_context(|| {
            format!(
                "cannot install {} as {}",
                source.display(),
                target.display()
            )
        })
}

fn serves() -> bool {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None);
    let connected =
        socket.and_then(|socket| rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?));
    connected.is_ok()
}
