//! A program of the product as the cluster's object says: its init containers, its container with its
//! probes, and started again whenever it dies. Nothing about it is known here that is not in that
//! object.

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
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::PodTemplateSpec,
};
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{process::Child, task::JoinSet, time::sleep};

use self::template::{Container, Identity, Pod, Probe};
use super::LAB;
use crate::{
    kubernetes::{self, CONTROL_PLANE},
    region,
};

/// First and longest pause before it is started again, and how long it must have run to begin
/// with the first once more. A kubelet begins at 10 s; the lab has no time for that.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(10);

/// Where the product's objects are.
const NAMESPACE: &str = "kube-system";

/// Which program, and whose template says how it runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Product {
    Agent,
    ControlPlane,
}

impl Product {
    /// The program, as people name it to have it killed.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Agent => kubernetes::AGENT,
            Self::ControlPlane => CONTROL_PLANE,
        }
    }

    /// The object's name.
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "terway",
            Self::ControlPlane => CONTROL_PLANE,
        }
    }

    async fn template(self, client: &Client) -> Result<PodTemplateSpec> {
        let (client, name) = (client.clone(), self.name());
        let template = match self {
            Self::Agent => {
                let set = Api::<DaemonSet>::namespaced(client, NAMESPACE)
                    .get(name)
                    .await?;
                set.spec.map(|spec| spec.template)
            }
            Self::ControlPlane => {
                let set = Api::<Deployment>::namespaced(client, NAMESPACE)
                    .get(name)
                    .await?;
                set.spec.map(|spec| spec.template)
            }
        };
        template.context("it has no spec")
    }
}

/// A program on this node.
#[derive(Debug)]
pub(super) struct Workload {
    product: Product,
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

impl Workload {
    pub(super) fn new(product: Product, node: &str, address: Ipv4Addr) -> Self {
        Self {
            product,
            node: node.to_owned(),
            address,
            state: Mutex::new(State {
                pid: None,
                starts: 0,
                unready: Some("it has not started".to_owned()),
            }),
        }
    }

    pub(super) fn program(&self) -> &'static str {
        self.product.program()
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
        let pid = pid.ok_or_else(|| anyhow!("{} does not run at this moment", self.program()))?;
        kill_process(pid, Signal::KILL)
            .with_context(|| format!("cannot kill {}", self.program()))?;
        Ok(json!({ "killed": pid.as_raw_nonzero().get() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> String {
        format!("{}-{}", self.node, self.program())
    }
}

/// Keeps the program running, for ever.
pub(super) async fn supervise(workload: Arc<Workload>, client: Client) {
    let mut pause = PAUSE_MIN;
    // The pod whose init containers have run.
    let mut initialised: Option<Pod> = None;
    loop {
        let began = Instant::now();
        let outcome = match run(&workload, &client, &mut initialised).await {
            Ok(status) => status.to_string(),
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!(outcome, ?pause, "{} has ended", workload.program());
        {
            let mut state = workload.lock();
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

/// Runs it once; its init containers too, the first time and when its manifest has changed.
async fn run(
    workload: &Arc<Workload>,
    client: &Client,
    initialised: &mut Option<Pod>,
) -> Result<std::process::ExitStatus> {
    let pod = read(workload, client).await?;
    let mut followers = JoinSet::new();
    for each in &pod.volumes {
        each.fill(client.clone(), NAMESPACE).await?;
        followers.spawn(each.clone().follow(client.clone(), NAMESPACE));
    }
    write_kubeconfig()?;
    if initialised.as_ref() != Some(&pod) {
        for each in &pod.init {
            let mut child = container::start(each, &workload.log())?;
            let status = child.wait().await?;
            if !status.success() {
                bail!(
                    "init container {} ended with {status}; its log says why",
                    each.name
                );
            }
        }
        *initialised = Some(pod.clone());
    }
    let mut child = container::start(&pod.main, &workload.log())?;
    {
        let mut state = workload.lock();
        state.pid = child.id();
        state.starts += 1;
    }
    attend(workload, &pod.main, &mut child).await
}

/// The program's pod on this node, as its object describes it now.
async fn read(workload: &Workload, client: &Client) -> Result<Pod> {
    let (product, node) = (workload.product, &workload.node);
    let what = || format!("{product:?}: {NAMESPACE}/{}", product.name());
    let template = product.template(client).await.with_context(what)?;
    let identity = Identity {
        namespace: NAMESPACE,
        pod: &format!("{}-{node}", product.name()),
        node,
    };
    template::read(&template, identity).with_context(what)
}

/// Waits for the container's end, and asks its probes meanwhile.
async fn attend(
    workload: &Arc<Workload>,
    container: &Container,
    child: &mut Child,
) -> Result<std::process::ExitStatus> {
    let first = container
        .readiness
        .as_ref()
        .map(|_| "its probe has not asked yet".to_owned());
    workload.lock().unready = first;
    let readiness = async {
        match &container.readiness {
            Some(probe) => {
                judge(probe, workload.address, |failed| {
                    workload.lock().unready = failed
                })
                .await
            }
            None => pending().await,
        }
    };
    let liveness = async {
        let told = |failed: Option<String>| {
            if let Some(why) = failed {
                tracing::warn!(why, "{} is not alive and is killed", workload.program());
                // It may just have ended by itself.
                let _ = workload.kill();
            }
        };
        match &container.liveness {
            Some(probe) => judge(probe, workload.address, told).await,
            None => pending().await,
        }
    };
    tokio::select! {
        status = child.wait() => status.context("cannot wait for it"),
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
