//! The agent as the cluster's DaemonSet says: its init containers, its container with its probes, and
//! started again whenever it dies. Nothing about it is known here that is not in that object.

mod container;
mod probe;
mod template;
mod volume;

use std::{
    convert::Infallible,
    fs,
    future::pending,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{process::Child, task::JoinSet, time::sleep};

use self::template::{Container, Identity, Pod, Probe};
use super::LAB;
use crate::region;

/// First and longest pause before the agent is started again, and how long it must have run to begin
/// with the first once more. A kubelet begins at 10 s; the lab has no time for that.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(10);

/// The product's DaemonSet.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "terway";

/// The agent of this node.
#[derive(Debug)]
pub(super) struct Agent {
    node: String,
    address: Ipv4Addr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pid: Option<u32>,
    starts: u32,
    /// Why it is not ready, if it is not.
    unready: Option<String>,
}

impl Agent {
    pub(super) fn new(node: &str, address: Ipv4Addr) -> Self {
        Self {
            node: node.to_owned(),
            address,
            state: Mutex::new(State {
                pid: None,
                starts: 0,
                unready: Some("it has not started".to_owned()),
            }),
        }
    }

    /// Its process, as this node numbers it, how often it was started again, and what its probe says.
    pub(super) fn describe(&self) -> Value {
        let state = self.lock();
        json!({
            "pid": state.pid, "restarts": state.starts.saturating_sub(1),
            "ready": state.unready.is_none(), "not_ready": state.unready,
        })
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> String {
        format!("{}-terwayd", self.node)
    }
}

/// Keeps the agent running, for ever.
pub(super) async fn supervise(agent: Arc<Agent>, client: Client) {
    let mut pause = PAUSE_MIN;
    // The pod whose init containers have run.
    let mut initialised: Option<Pod> = None;
    loop {
        let began = Instant::now();
        let outcome = match run(&agent, &client, &mut initialised).await {
            Ok(status) => status.to_string(),
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!(outcome, ?pause, "the agent has ended");
        {
            let mut state = agent.lock();
            state.pid = None;
            state.unready = Some(format!("it has ended: {outcome}"));
        }
        if began.elapsed() >= STEADY {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Runs the agent once; its init containers too, the first time and when its manifest has changed.
async fn run(
    agent: &Arc<Agent>,
    client: &Client,
    initialised: &mut Option<Pod>,
) -> Result<std::process::ExitStatus> {
    let pod = read(agent, client).await?;
    let mut followers = JoinSet::new();
    for each in &pod.volumes {
        volume::fill(client, NAMESPACE, each).await?;
        followers.spawn(volume::follow(
            client.clone(),
            NAMESPACE.to_owned(),
            each.clone(),
        ));
    }
    write_kubeconfig()?;
    if initialised.as_ref() != Some(&pod) {
        for each in &pod.init {
            let mut child = container::start(each, &agent.log())?;
            let status = child.wait().await?;
            if !status.success() {
                bail!(
                    "init container {} ended with {status}; the agent's log says why",
                    each.name
                );
            }
        }
        *initialised = Some(pod.clone());
    }
    let mut child = container::start(&pod.main, &agent.log())?;
    {
        let mut state = agent.lock();
        state.pid = child.id();
        state.starts += 1;
    }
    attend(agent, &pod.main, &mut child).await
}

/// The agent's pod on this node, as the DaemonSet describes it now.
async fn read(agent: &Agent, client: &Client) -> Result<Pod> {
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    let what = || format!("DaemonSet {NAMESPACE}/{NAME}");
    let set = sets.get(NAME).await.with_context(what)?;
    let spec = set.spec.with_context(what)?;
    let identity = Identity {
        namespace: NAMESPACE,
        pod: &format!("{NAME}-{}", agent.node),
        node: &agent.node,
    };
    template::read(&spec.template, identity).with_context(what)
}

/// Waits for the container's end, and asks its probes meanwhile.
async fn attend(
    agent: &Arc<Agent>,
    container: &Container,
    child: &mut Child,
) -> Result<std::process::ExitStatus> {
    let first = container
        .readiness
        .as_ref()
        .map(|_| "its probe has not asked yet".to_owned());
    agent.lock().unready = first;
    let readiness = async {
        match &container.readiness {
            Some(probe) => {
                judge(probe, agent.address, |failed| agent.lock().unready = failed).await
            }
            None => pending().await,
        }
    };
    let liveness = async {
        let told = |failed: Option<String>| {
            if let Some(why) = failed {
                tracing::warn!(why, "the agent is not alive and is killed");
                // It may just have ended by itself.
                let _ = agent.kill();
            }
        };
        match &container.liveness {
            Some(probe) => judge(probe, agent.address, told).await,
            None => pending().await,
        }
    };
    tokio::select! {
        status = child.wait() => status.context("cannot wait for the agent"),
        never = readiness => match never {},
        never = liveness => match never {},
    }
}

/// Asks for ever; `told` hears of each success, and of a failure from as many in a row as the probe
/// allows.
async fn judge(probe: &Probe, address: Ipv4Addr, told: impl Fn(Option<String>)) -> Infallible {
    let mut failures = 0;
    loop {
        match probe::ask(probe, address).await {
            Ok(()) => {
                failures = 0;
                told(None);
            }
            Err(error) => {
                failures += 1;
                if failures >= probe.failures {
                    told(Some(format!("{error:#}")));
                }
            }
        }
        sleep(Duration::from_secs(probe.period)).await;
    }
}

/// How programs on this node reach the API server, which asks nobody who they are.
fn write_kubeconfig() -> Result<()> {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{ "name": "node", "cluster": { "server": region::kubernetes_url() } }],
        "users": [{ "name": "node", "user": {} }],
        "contexts": [{ "name": "node", "context": { "cluster": "node", "user": "node" } }],
    });
    let path = Path::new(LAB).join("node/kubeconfig");
    fs::write(&path, kubeconfig.to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}
