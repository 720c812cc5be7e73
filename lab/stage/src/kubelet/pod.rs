//! One pod's life on its node, from its first order to its last DEL. Every pod has a task of its own,
//! so that none waits for another's plugin.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Kubelet, report,
    sandbox::{Container, Sandbox},
};

/// First and longest pause between two attempts at a sandbox or at its removal. A kubelet tries again
/// when it next syncs the pod, 1 s to 2 minutes; the lab is impatient.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Time to shut down when the pod does not say.
const GRACE: Duration = Duration::from_secs(30);

/// What the API server says about a pod, the latest only.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) pod: Arc<Pod>,
    /// The object is gone from the API server.
    pub(super) gone: bool,
}

impl Order {
    fn ends(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// Looks after a pod until it is gone.
pub(super) async fn look_after(kubelet: Arc<Kubelet>, mut orders: watch::Receiver<Order>) {
    if let Some((sandbox, container)) = start(&kubelet, &mut orders).await {
        let pod = Arc::clone(&orders.borrow().pod);
        kubelet.remember(&pod, &sandbox.netns);
        let container = keep_running(&kubelet, &mut orders, &sandbox, container).await;
        let grace = orders.borrow().pod.metadata.deletion_grace_period_seconds;
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
        container
            .stop(grace.map_or(GRACE, Duration::from_secs))
            .await;
        remove(&kubelet, &pod, &sandbox).await;
        kubelet.forget(&pod, &sandbox.netns);
    }
    let order = orders.borrow().clone();
    if !order.gone {
        let mut pause = PAUSE_MIN;
        while let Err(error) = report::finished(&kubelet, &order.pod).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "a pod that ended could not be removed"
            );
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Tries until the pod runs; `None` when it must go before that.
async fn start(
    kubelet: &Kubelet,
    orders: &mut watch::Receiver<Order>,
) -> Option<(Sandbox, Container)> {
    let mut pause = PAUSE_MIN;
    for attempt in 0.. {
        let order = orders.borrow_and_update().clone();
        if order.ends() {
            return None;
        }
        match attempt_start(kubelet, &order.pod, attempt).await {
            Ok(running) => return Some(running),
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(pod = order.pod.metadata.name, why, "no sandbox");
                report::failed_sandbox(kubelet, &order.pod, &why).await;
            }
        }
        // Whichever comes first: the end of the pause, or the pod's.
        let _ = timeout(pause, orders.wait_for(Order::ends)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    None
}

async fn attempt_start(kubelet: &Kubelet, pod: &Pod, attempt: u32) -> Result<(Sandbox, Container)> {
    let mut sandbox = Sandbox::of(pod, attempt, kubelet.record())?;
    let outcome = bring_up(kubelet, pod, &mut sandbox).await;
    match outcome {
        Ok(container) => Ok((sandbox, container)),
        Err(error) => {
            // What may be half there is taken away before anything else is tried, as runtimes do.
            remove(kubelet, pod, &sandbox).await;
            Err(error)
        }
    }
}

async fn bring_up(kubelet: &Kubelet, pod: &Pod, sandbox: &mut Sandbox) -> Result<Container> {
    {
        let _slot = kubelet.slots.acquire().await?;
        sandbox
            .set_up()
            .await
            .context("failed to setup network for sandbox")?;
    }
    let container = sandbox.start().await?;
    report::running(kubelet, pod, sandbox.addresses(), 0).await?;
    Ok(container)
}

/// Restarts the pod's program when it ends, until the pod must go.
async fn keep_running(
    kubelet: &Kubelet,
    orders: &mut watch::Receiver<Order>,
    sandbox: &Sandbox,
    mut container: Container,
) -> Container {
    for restarts in 1.. {
        tokio::select! {
            _ = orders.wait_for(Order::ends) => break,
            () = container.ended() => {}
        }
        sleep(PAUSE_MIN).await;
        let pod = Arc::clone(&orders.borrow().pod);
        let outcome = match sandbox.start().await {
            Ok(again) => {
                container = again;
                report::running(kubelet, &pod, sandbox.addresses(), restarts).await
            }
            failed => failed.map(drop),
        };
        if let Err(error) = outcome {
            tracing::warn!(
                pod = pod.metadata.name,
                error = format!("{error:#}"),
                "not restarted"
            );
        }
    }
    container
}

/// Removes a sandbox, however often it takes.
async fn remove(kubelet: &Kubelet, pod: &Pod, sandbox: &Sandbox) {
    let mut pause = PAUSE_MIN;
    loop {
        let outcome = match kubelet.slots.acquire().await {
            Ok(_slot) => sandbox.tear_down().await,
            Err(error) => Err(error.into()),
        };
        let Err(error) = outcome else { return };
        let why = format!("{error:#}");
        tracing::warn!(pod = pod.metadata.name, why, "sandbox not removed");
        report::failed_removal(kubelet, pod, &why).await;
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
