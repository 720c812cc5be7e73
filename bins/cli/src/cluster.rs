//! The API server, as far as this tool asks it: objects by name, the agents' pods, and a command run in
//! one of them. Every question has a deadline and every answer a bound.

use std::{fmt::Debug, future::Future, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Config, Resource,
    api::{AttachParams, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::agent::chain;

/// What one question to the API server may take: it answers in milliseconds, or is in trouble, and then
/// a person wants to know that soon.
const QUESTION: Duration = Duration::from_secs(10);

/// What opening a connection may take: one lost SYN is sent again after 1 s, the next after 3 s.
const CONNECT: Duration = Duration::from_secs(4);

/// What a command in an agent's pod may take: its own 5 s for the agent, and starting it there.
pub(crate) const COMMAND: Duration = Duration::from_secs(15);

/// Commands under way at once. Each is one connection through API server and kubelet; 1,000 nodes at
/// 0.2 s each are done in 13 s.
pub(crate) const COMMANDS_AT_ONCE: usize = 16;

/// Longest output of a command that is read: a recording has 1 MiB, the machine it began with, and the
/// longest input that came last; each of those is below 1 MiB on a node of 1,000 addresses.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

/// Objects a page, and pages at the most: 10,000 nodes, twice what Kubernetes is tested with.
const PAGE: u32 = 500;
const PAGES_MAX: usize = 20;

/// The label of the agents' pods, and the container in them.
pub(crate) const AGENT_LABEL: &str = "app=terway";
pub(crate) const AGENT_CONTAINER: &str = "terway";
/// The container that installs the plugin before the agent starts.
pub(crate) const INSTALL_CONTAINER: &str = "install";
/// The DaemonSet, and the ConfigMap it reads.
pub(crate) const DAEMONSET: &str = "terway";
pub(crate) const CONFIGMAP: &str = "eni-config";

/// Which cluster, and where in it the agents are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Where {
    /// Kubeconfig file; else KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace of DaemonSet terway and ConfigMap eni-config
    #[arg(
        long,
        global = true,
        default_value = "kube-system",
        env = "POD_NAMESPACE"
    )]
    agent_namespace: String,
}

/// A cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// Where the agents are.
    pub(crate) namespace: String,
}

/// What came of looking for something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen<T> {
    /// It is there.
    Is(T),
    /// It is not there, for certain.
    Absent,
    /// There was nothing to ask about.
    Pointless,
    /// Nobody knows, with the reason in words.
    Unknown(String),
}

impl<T> Seen<T> {
    pub(crate) fn is(&self) -> Option<&T> {
        match self {
            Seen::Is(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Is(value) => Seen::Is(with(value)),
            Seen::Absent => Seen::Absent,
            Seen::Pointless => Seen::Pointless,
            Seen::Unknown(why) => Seen::Unknown(why),
        }
    }
}

impl Cluster {
    /// A client of the cluster. No question is asked yet.
    pub(crate) async fn connect(place: &Where) -> Result<Self> {
        // Without a provider of its own the TLS library would have to be told at every connection; that
        // one is there already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions {
            context: place.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = match &place.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("reading kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await?
            }
            None if place.context.is_some() => Config::from_kubeconfig(&options).await?,
            // What lies below says the same twice and no more.
            None => Config::infer().await.map_err(|_| {
                anyhow!("no kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) and no service account")
            })?,
        };
        config.connect_timeout = Some(CONNECT);
        Ok(Self {
            client: Client::try_from(config).context("a client of the API server")?,
            namespace: place.agent_namespace.clone(),
        })
    }

    /// The object `name` of `api`, as far as it can be known.
    pub(crate) async fn look<K>(&self, api: &Api<K>, name: &str) -> Seen<K>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        match in_time(api.get_opt(name)).await {
            Ok(Some(object)) => Seen::Is(object),
            Ok(None) => Seen::Absent,
            Err(error) => Seen::Unknown(error),
        }
    }

    /// All objects of `api` that `question` selects.
    pub(crate) async fn list<K>(&self, api: &Api<K>, question: ListParams) -> Result<Vec<K>>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let mut all = Vec::new();
        let mut question = question.limit(PAGE);
        for _ in 0..PAGES_MAX {
            let page = in_time(api.list(&question)).await;
            let page = page.map_err(anyhow::Error::msg)?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => question = question.continue_token(&token),
                None => return Ok(all),
            }
        }
        bail!("the API server's list has more than {PAGES_MAX} pages of {PAGE}");
    }

    /// The agents' pods, of `node` or of all nodes.
    pub(crate) async fn agents(&self, node: Option<&str>) -> Result<Vec<Pod>> {
        let mut question = ListParams::default().labels(AGENT_LABEL);
        if let Some(node) = node {
            question = question.fields(&format!("spec.nodeName={node}"));
        }
        self.list(&self.pods(), question)
            .await
            .with_context(|| format!("listing the agents' pods in {}", self.namespace))
    }

    /// All nodes.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        self.list(&Api::all(self.client.clone()), ListParams::default())
            .await
            .context("listing nodes")
    }

    /// Pods where the agents are.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What `terway-cli` with `arguments` prints in the agent's pod `name`.
    pub(crate) async fn command(&self, name: &str, arguments: &[&str]) -> Result<String, String> {
        let run = self.run(name, arguments);
        match tokio::time::timeout(COMMAND, run).await {
            Ok(output) => output.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("no answer within {}s", COMMAND.as_secs())),
        }
    }

    async fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let command = std::iter::once("terway-cli").chain(arguments.iter().copied());
        let how = AttachParams::default()
            .container(AGENT_CONTAINER)
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let mut process = self
            .pods()
            .exec(name, command, &how)
            .await
            .map_err(|error| {
                anyhow::anyhow!("running terway-cli in pod {name}: {}", chain(&error))
            })?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
        // The status says that the command failed; its own words say why.
        if stdout.trim().is_empty() {
            let status = match process.take_status() {
                Some(status) => status.await,
                None => None,
            };
            let status = status.and_then(|status| status.message).unwrap_or_default();
            let why = if stderr.trim().is_empty() {
                status
            } else {
                stderr
            };
            bail!("terway-cli in pod {name} printed nothing: {}", why.trim());
        }
        Ok(stdout)
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let Some(stream) = stream else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    stream
        .take(OUTPUT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() as u64 > OUTPUT_BYTES_MAX {
        bail!("its output is longer than {OUTPUT_BYTES_MAX} bytes");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The answer to `question`, or why there is none, in words that say what to do.
pub(crate) async fn in_time<T>(
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, String> {
    match tokio::time::timeout(QUESTION, question).await {
        Err(_) => Err(format!(
            "the API server did not answer within {}s",
            QUESTION.as_secs()
        )),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(format!("not permitted: {}", status.message))
        }
        Ok(Err(error)) => Err(chain(&error)),
    }
}

/// The name of an object; an object without one cannot come from an API server.
pub(crate) fn name<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}
