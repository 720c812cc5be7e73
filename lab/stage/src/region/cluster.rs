//! The cluster of the region: the simulated one in this process, or a real one behind its door.

use std::{fs::File, net::SocketAddr, os::fd::AsRawFd, time::Duration};

use anyhow::{Context, Result, anyhow};
use cloudsim::Instance;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::{Api, Client, api::ListParams};
use kubesim::{ListQuery, http::Api as Simulated, registry};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{process::Command, task::JoinSet, time::sleep};

use super::{
    KubernetesArgs, PoolArgs,
    keeper::Keeper,
    seed,
    services::{KUBERNETES, KUBERNETES_PORT, Services},
};
use crate::{
    control::NodeRequest,
    kubernetes::{self, Pki, Release, Settings},
    node::Sources,
    statedir::{Process, StateDir},
};

/// How often is looked whether the cluster's controllers run.
const POLL: Duration = Duration::from_millis(200);
/// What a kubectl or a node may ask at once of a cluster of this size.
const PAGE: u32 = 5000;

/// The cluster.
pub(super) enum Cluster {
    Simulated(Simulated),
    Real(Box<Real>),
}

/// A cluster of real programs.
pub(super) struct Real {
    keeper: Keeper,
    client: Client,
    release: Release,
    pki: Pki,
    sources: Sources,
}

impl Real {
    /// Starts the control plane and waits until its controllers run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) async fn start(
        dir: &StateDir,
        args: &KubernetesArgs,
        pool: &PoolArgs,
        services: &Services,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Self, SocketAddr)> {
        let sources = args.sources()?;
        let release = Release::at(&sources.programs)?;
        let door = kubernetes::open_door(
            services.netns()?,
            SocketAddr::from((KUBERNETES, KUBERNETES_PORT)),
            tasks,
        )
        .await?;
        let addresses = [
            door.ip(),
            KUBERNETES.into(),
            kubernetes::api_service().into(),
        ];
        let pki = Pki::create(&dir.pki(), &addresses)?;
        kubernetes::write_kubeconfig(&dir.kubeconfig(), &format!("https://{door}"), &pki, "admin")?;
        let config = seed::region(pool);
        kubernetes::write_installation(
            &dir.installation(),
            &args.manifests(),
            release.minor,
            Settings {
                eni_config: seed::eni_config(&config, pool)?,
                ctrl_config: seed::ctrl_config(&config, pool),
                mode: kubernetes::Mode::of(pool),
            },
        )?;
        let log = dir.log("control-plane");
        let log = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let netns = services.netns()?;
        let mut enter = Command::new("nsenter");
        enter.arg(format!(
            "--net=/proc/{}/fd/{}",
            std::process::id(),
            netns.as_raw_fd()
        ));
        enter.args(["unshare", "--mount", "--pid", "--mount-proc"]);
        enter.args(["--propagation", "private", "--fork", "--kill-child"]);
        enter.arg(std::env::current_exe().context("cannot find my own program")?);
        enter.arg("control-plane").arg("--dir").arg(dir.path());
        enter
            .arg("--kubernetes")
            .arg(&release.directory)
            .stderr(log);
        let keeper = Keeper::start("the control plane", enter).await?;
        let real = Self {
            keeper,
            client: kubernetes::client(&dir.kubeconfig()).await?,
            release,
            pki,
            sources,
        };
        Ok((real, door))
    }

    /// Waits until the controllers have made what the first pod needs.
    pub(super) async fn serves(&self) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "default");
        while accounts.get("default").await.is_err() {
            sleep(POLL).await;
        }
    }

    pub(super) fn process(&self) -> Result<Process> {
        Ok(Process::of(self.keeper.pid)?)
    }

    pub(super) async fn stop(&self) -> Result<()> {
        self.keeper.stop().await
    }

    /// Kills a program of the control plane.
    pub(super) async fn kill(&self, component: String) -> Result<Value> {
        self.keeper.ask(&NodeRequest::Kill { component }).await
    }
}

impl Cluster {
    /// What a node of this cluster needs of the machine.
    pub(super) fn sources(&self) -> Option<Sources> {
        match self {
            Self::Simulated(_) => None,
            Self::Real(real) => Some(real.sources.clone()),
        }
    }

    /// Does what is done for an instance before its node boots.
    pub(super) fn welcome(
        &self,
        dir: &StateDir,
        pool: &PoolArgs,
        region: &str,
        instance: &Instance,
    ) -> Result<()> {
        match self {
            Self::Simulated(cluster) => {
                cluster.create_object(seed::node(region, instance, pool))?;
                Ok(())
            }
            Self::Real(real) => {
                let site = kubernetes::NodeSite {
                    pki: &real.pki,
                    minor: real.release.minor,
                    region,
                    instance,
                };
                kubernetes::prepare_node(&dir.node(&instance.name), &site)
            }
        }
    }

    /// The nodes, as documents.
    pub(super) async fn nodes(&self) -> Result<Vec<Value>> {
        match self {
            Self::Simulated(cluster) => list(cluster, &registry::NODES),
            Self::Real(real) => documents(Api::<Node>::all(real.client.clone())).await,
        }
    }

    /// The pods of all namespaces, as documents.
    pub(super) async fn pods(&self) -> Result<Vec<Value>> {
        match self {
            Self::Simulated(cluster) => list(cluster, &registry::PODS),
            Self::Real(real) => documents(Api::<Pod>::all(real.client.clone())).await,
        }
    }

    /// The node that a pod is on.
    pub(super) async fn node_of(&self, namespace: &str, name: &str) -> Result<String> {
        let pods = self.pods().await?;
        let pod = pods.iter().find(|pod| {
            pod["metadata"]["namespace"] == namespace && pod["metadata"]["name"] == name
        });
        let pod = pod.ok_or_else(|| anyhow!("there is no pod {namespace}/{name}"))?;
        let node = pod["spec"]["nodeName"].as_str();
        Ok(node
            .ok_or_else(|| anyhow!("pod {name} has no node yet"))?
            .to_owned())
    }
}

fn list(cluster: &Simulated, resource: &'static kubesim::Resource) -> Result<Vec<Value>> {
    let listing = cluster.read(|cluster| cluster.list(resource, "", &ListQuery::default()))?;
    Ok(listing
        .items
        .iter()
        .map(|object| Value::clone(object))
        .collect())
}

async fn documents<K>(api: Api<K>) -> Result<Vec<Value>>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let listing = api.list(&ListParams::default().limit(PAGE)).await?;
    let items = listing.items.iter().map(serde_json::to_value);
    Ok(items.collect::<Result<_, _>>()?)
}
