//! etcd, API server, controllers and scheduler, kept by the first process of a PID namespace of theirs
//! inside the services' network namespace. It ends with its standard input, and with it all of them.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use kube::Client;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    flags::{self, api_server},
    pki::Pki,
    release::Release,
    site::{client, write_kubeconfig},
    supervise::{Program, Supervisor},
};
use crate::{
    control::{Answer, NodeRequest, line},
    statedir::StateDir,
};

/// How often is looked whether the API server is ready.
const POLL: Duration = Duration::from_millis(200);

/// What it is started with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ControlPlaneArgs {
    /// Where the programs of Kubernetes are
    #[arg(long)]
    pub(crate) kubernetes: PathBuf,
}

/// Keeps the control plane of the lab in `dir`, whose keys exist, until standard input ends.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(dir: &StateDir, args: &ControlPlaneArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // A second provider is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let release = Release::at(&args.kubernetes)?;
    let pki = Pki::at(&dir.pki());
    let supervisor = runtime.block_on(async { Supervisor::new() });
    let start = start(dir.clone(), release, pki, Arc::clone(&supervisor));
    runtime.spawn(async move {
        if let Err(error) = start.await {
            tracing::error!(
                error = format!("{error:#}"),
                "the control plane does not start"
            );
        }
    });
    say(Ok(Value::Null))?;
    for request in std::io::stdin().lines() {
        say(match serde_json::from_str(&request?) {
            Ok(NodeRequest::Kill { component }) => supervisor.kill(&component),
            Ok(_) => Ok(supervisor.describe()),
            Err(error) => Err(error.into()),
        })?;
    }
    Ok(())
}

fn say(answer: Result<Value>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&line(&Answer::from(answer))?)?;
    Ok(out.flush()?)
}

/// Waits for ever until the API server says that it is ready.
async fn ready(kubeconfig: &Path) -> Result<()> {
    let client = client(kubeconfig).await?;
    while !is_ready(&client).await {
        sleep(POLL).await;
    }
    tracing::info!("the API server is ready");
    Ok(())
}

async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new());
    match request {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}

/// Starts one after the other, each when what it needs is there.
async fn start(
    dir: StateDir,
    release: Release,
    pki: Pki,
    supervisor: Arc<Supervisor>,
) -> Result<()> {
    let keep = |name: &'static str, arguments: Vec<String>| {
        supervisor.keep(Program {
            name,
            arguments,
            path: release.path(),
            log: dir.log(name),
        });
    };
    keep("etcd", flags::etcd(&dir.path().join("etcd")));
    keep("kube-apiserver", flags::api_server_flags(&pki));
    let kubeconfig = |user: &str| {
        let path = dir.pki().join(format!("{user}.kubeconfig"));
        write_kubeconfig(&path, &api_server(), &pki, user).map(|()| path)
    };
    ready(&kubeconfig("admin")?).await?;
    let minor = release.minor;
    let manager = kubeconfig("kube-controller-manager")?;
    keep(
        "kube-controller-manager",
        flags::controller_manager(minor, &pki, &manager),
    );
    keep(
        "kube-scheduler",
        flags::scheduler(minor, &kubeconfig("kube-scheduler")?),
    );
    Ok(())
}
