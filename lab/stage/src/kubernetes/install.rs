//! The product installed as its documentation says: its manifests as they are, with the lab's
//! configuration and the addresses of the lab's cloud laid over them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{node::CONTROL_PLANE, release::Minor};
use crate::{
    region::{OPENAPI, PoolArgs},
    tool,
};

/// Where the manifests lie below the installation.
const DEPLOY: &str = "deploy";
/// Where the agent finds the kubeconfig it is shown.
const KUBECONFIG: &str = "/etc/lab/kubeconfig";

/// The ConfigMaps that whoever installs the product fills in.
pub(crate) struct Settings {
    /// `kube-system/eni-config`.
    pub(crate) eni_config: Value,
    /// The control plane's, where there is one.
    pub(crate) ctrl_config: Option<Value>,
    /// What the agents are installed for.
    pub(crate) mode: Mode,
}

/// Which overlay of the manifests is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    EniIp,
    Trunk,
    Vpc,
}

impl Mode {
    pub(crate) fn of(pool: &PoolArgs) -> Self {
        match (pool.vpc, pool.trunk) {
            (true, _) => Self::Vpc,
            (false, true) => Self::Trunk,
            (false, false) => Self::EniIp,
        }
    }

    fn overlay(self) -> &'static str {
        match self {
            Self::EniIp => "base",
            Self::Trunk => "overlays/trunk",
            Self::Vpc => "overlays/vpc",
        }
    }
}

/// A workload that is installed: its kind, its name, and its container.
type Workload = (&'static str, &'static str, &'static str);

const AGENT: Workload = ("DaemonSet", "terway", "terway");
const CONTROLLER: Workload = ("Deployment", CONTROL_PLANE, "controlplane");

/// Writes an installation to `directory`: for `kubectl apply -k`. `manifests` is the `deploy`
/// directory that is installed.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn write(
    directory: &Path,
    manifests: &Path,
    minor: Minor,
    mut settings: Settings,
) -> Result<()> {
    let base = match (minor.surges_daemon_sets(), settings.mode) {
        (true, mode) => mode.overlay(),
        (false, Mode::Trunk) => "overlays/trunk-kubernetes-1.20",
        (false, _) => "overlays/kubernetes-1.20",
    };
    settings.eni_config = with_host_ports(&settings.eni_config)?;
    lay_out(directory, manifests, base, &settings, |workload| {
        overlay(workload, &[], &[])
    })
}

/// The same for the simulated cluster. It gives pods no account, so the programs are shown the node's
/// `kubeconfig`, and it has no kube-proxy, so there are no ports of nodes.
///
/// # Errors
/// As for [`write()`].
pub(crate) fn write_simulated(
    directory: &Path,
    manifests: &Path,
    settings: &Settings,
    kubeconfig: &str,
) -> Result<()> {
    let base = settings.mode.overlay();
    lay_out(directory, manifests, base, settings, |workload| {
        overlay(
            workload,
            &[("KUBECONFIG", KUBECONFIG)],
            &[(kubeconfig, KUBECONFIG)],
        )
    })
}

fn lay_out(
    directory: &Path,
    manifests: &Path,
    base: &str,
    settings: &Settings,
    overlay: impl Fn(Workload) -> Value,
) -> Result<()> {
    // A kustomization takes nothing from above itself, so the manifests come here.
    copy(manifests, &directory.join(DEPLOY))?;
    let mut bases = vec![format!("{DEPLOY}/{base}")];
    let mut resources = vec![("eni-config.yaml", settings.eni_config.clone())];
    let mut overlays = vec![("overlay.yaml", overlay(AGENT))];
    if let Some(config) = &settings.ctrl_config {
        bases.push(format!("{DEPLOY}/controlplane"));
        resources.push(("ctrl-config.yaml", config.clone()));
        overlays.push(("controlplane-overlay.yaml", overlay(CONTROLLER)));
    }
    let names = |of: &[(&'static str, Value)]| of.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        // In the words that the kustomize of kubectl 1.20 knows.
        "bases": bases,
        "resources": names(&resources),
        "patchesStrategicMerge": names(&overlays),
    });
    let documents = resources.into_iter().chain(overlays);
    for (name, document) in documents.chain([("kustomization.yaml", kustomization)]) {
        let path = directory.join(name);
        let text = serde_json::to_string_pretty(&document)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Applies the installation in `directory` with the kubeconfig at `kubeconfig`.
///
/// # Errors
/// With what `kubectl` says.
pub(crate) fn apply(directory: &Path, kubeconfig: &Path) -> Result<String> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(kubeconfig);
    kubectl.args(["apply", "-k"]).arg(directory);
    tool::output("kubectl apply", kubectl)
}

/// Everything that the lab adds to the manifests: the region's own addresses, which in the cloud the
/// programs find by the region's name, and what is given besides: variables, and files of the node by
/// their path there and in the container.
fn overlay(
    (kind, name, container): Workload,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Value {
    let openapi = OPENAPI.to_string();
    let own = [
        ("ECS_ENDPOINT", openapi.as_str()),
        ("VPC_ENDPOINT", &openapi),
        ("ALICLOUD_CLIENT_SCHEME", "HTTP"),
    ];
    let environment: Value = own
        .iter()
        .chain(variables)
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let volume = |at: usize| format!("lab-{at}");
    let mounts: Value = (0..)
        .zip(files)
        .map(|(at, (_, inside))| json!({ "name": volume(at), "mountPath": inside, "readOnly": true }))
        .collect();
    let volumes: Value = (0..)
        .zip(files)
        .map(|(at, (path, _))| json!({ "name": volume(at), "hostPath": { "path": path, "type": "File" } }))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": name, "namespace": "kube-system" },
        "spec": { "template": { "spec": {
            "containers": [{ "name": container, "env": environment, "volumeMounts": mounts }],
            "volumes": volumes,
        } } },
    })
}

/// The ConfigMap with the plugin for ports of the node chained in, as clusters with a real kube-proxy
/// have it.
fn with_host_ports(eni_config: &Value) -> Result<Value> {
    let mut map = eni_config.clone();
    let chain = map["data"]["10-terway.conflist"]
        .as_str()
        .unwrap_or_default();
    let mut chain: Value =
        serde_json::from_str(chain).context("the chain of plugins is no JSON")?;
    let port_map = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    chain["plugins"]
        .as_array_mut()
        .context("the chain has no plugins")?
        .push(port_map);
    map["data"]["10-terway.conflist"] = serde_json::to_string_pretty(&chain)?.into();
    Ok(map)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to).with_context(what)?;
    for entry in fs::read_dir(from).with_context(what)? {
        let entry = entry.with_context(what)?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().with_context(what)?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(what)?;
        }
    }
    Ok(())
}
