//! The files that programs of the cluster are given: kubeconfigs, certificates, configuration.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cloudsim::Instance;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{
    flags::{self, Introduction, api_server},
    pki::{Pki, Subject},
    release::Minor,
};

/// Where a node finds its files.
pub(super) const FILES: &str = "/run/lab/node/kubernetes";
/// The kubelet's command line, which only the region can write: it knows the instance.
pub(super) const KUBELET_LINE: &str = "kubelet.line";

/// What a node's files are made of.
pub(crate) struct NodeSite<'a> {
    /// The lab's keys.
    pub(crate) pki: &'a Pki,
    /// Which Kubernetes.
    pub(crate) minor: Minor,
    /// Name of the region.
    pub(crate) region: &'a str,
    /// The node.
    pub(crate) instance: &'a Instance,
}

/// A kubeconfig at `path` for the user whose certificate is called `user`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_kubeconfig(path: &Path, server: &str, pki: &Pki, user: &str) -> Result<()> {
    let config = flags::kubeconfig(
        server,
        &pki.certificate("ca"),
        &pki.certificate(user),
        &pki.key(user),
    );
    put(path, &config.to_string())
}

/// A client for the API server of a kubeconfig.
///
/// # Errors
/// When the file is no kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Writes everything that a node's programs read to `home`, which the node sees as its own.
///
/// # Errors
/// When a key cannot be made or a file not be written.
pub(crate) fn prepare_node(home: &Path, site: &NodeSite<'_>) -> Result<()> {
    let NodeSite {
        pki,
        minor,
        region,
        instance,
    } = site;
    let there = home.join("kubernetes");
    fs::create_dir_all(&there).with_context(|| format!("cannot create {}", there.display()))?;
    let (name, address) = (instance.name.as_str(), IpAddr::V4(instance.primary_address));
    let user = format!("system:node:{name}");
    let kubelet = Subject {
        name: &user,
        group: Some("system:nodes"),
        names: &[format!("IP:{address}"), format!("DNS:{name}")],
    };
    pki.issue(name, &kubelet)?;
    let files = [("kubelet", name), ("kube-proxy", "kube-proxy")];
    for (file, own) in files {
        copy(&pki.certificate(own), &there.join(format!("{file}.crt")))?;
        copy(&pki.key(own), &there.join(format!("{file}.key")))?;
    }
    copy(&pki.certificate("ca"), &there.join("ca.crt"))?;
    // From here on paths are the node's.
    let seen = PathBuf::from(FILES);
    for (file, _) in files {
        let [certificate, key] = ["crt", "key"].map(|end| seen.join(format!("{file}.{end}")));
        let config = flags::kubeconfig(&api_server(), &seen.join("ca.crt"), &certificate, &key);
        put(
            &there.join(format!("{file}.kubeconfig")),
            &config.to_string(),
        )?;
    }
    let introduction = Introduction {
        name,
        address,
        region,
        zone: instance.zone.as_str(),
        instance: instance.id.as_str(),
        instance_type: &instance.instance_type,
    };
    let line = flags::kubelet(*minor, &introduction, &seen);
    put(&there.join(KUBELET_LINE), &line.join("\n"))?;
    put(
        &there.join("kubelet.json"),
        &flags::kubelet_config(*minor, &seen).to_string(),
    )?;
    put(&there.join("containerd.toml"), &flags::containerd_config())
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
