//! The product installed as its documentation says: its manifests as they are, with the lab's
//! configuration and the addresses of the lab's cloud laid over them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::release::Minor;
use crate::{region::OPENAPI, tool};

/// Where the manifests lie below the installation.
const DEPLOY: &str = "deploy";
/// Where the agent finds the kubeconfig it is shown.
const KUBECONFIG: &str = "/etc/lab/kubeconfig";

/// Writes an installation to `directory`: for `kubectl apply -k`. `manifests` is the `deploy`
/// directory that is installed.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn write(
    directory: &Path,
    manifests: &Path,
    minor: Minor,
    eni_config: &Value,
) -> Result<()> {
    let base = match minor.surges_daemon_sets() {
        true => "base",
        false => "overlays/kubernetes-1.20",
    };
    lay_out(
        directory,
        manifests,
        base,
        &with_host_ports(eni_config)?,
        &overlay(&[], &[]),
    )
}

/// The same for the simulated cluster. It gives pods no account, so the agent is shown the node's
/// `kubeconfig`, and it has no kube-proxy, so there are no ports of nodes.
///
/// # Errors
/// As for [`write()`].
pub(crate) fn write_simulated(
    directory: &Path,
    manifests: &Path,
    eni_config: &Value,
    kubeconfig: &str,
) -> Result<()> {
    let overlay = overlay(&[("KUBECONFIG", KUBECONFIG)], &[(kubeconfig, KUBECONFIG)]);
    lay_out(directory, manifests, "base", eni_config, &overlay)
}

fn lay_out(
    directory: &Path,
    manifests: &Path,
    base: &str,
    eni_config: &Value,
    overlay: &Value,
) -> Result<()> {
    // A kustomization takes nothing from above itself, so the manifests come here.
    copy(manifests, &directory.join(DEPLOY))?;
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        // In the words that the kustomize of kubectl 1.20 knows.
        "bases": [format!("{DEPLOY}/{base}")],
        "resources": ["eni-config.yaml"],
        "patchesStrategicMerge": ["overlay.yaml"],
    });
    for (name, document) in [
        ("kustomization.yaml", &kustomization),
        ("eni-config.yaml", eni_config),
        ("overlay.yaml", overlay),
    ] {
        let path = directory.join(name);
        let text = serde_json::to_string_pretty(document)?;
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
/// agent finds by the region's name, and what is given besides: variables, and files of the node by
/// their path there and in the container.
fn overlay(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Value {
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
    let name = |at: usize| format!("lab-{at}");
    let mounts: Value = (0..)
        .zip(files)
        .map(|(at, (_, inside))| json!({ "name": name(at), "mountPath": inside, "readOnly": true }))
        .collect();
    let volumes: Value = (0..)
        .zip(files)
        .map(|(at, (path, _))| json!({ "name": name(at), "hostPath": { "path": path, "type": "File" } }))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "terway", "namespace": "kube-system" },
        "spec": { "template": { "spec": {
            "containers": [{ "name": "terway", "env": environment, "volumeMounts": mounts }],
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
