//! `terwayd install`, the DaemonSet's first container: makes sure that the node can be served at all,
//! and puts the plugin where the container runtime looks for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;

use crate::notices::{self, Notices};

/// Oldest kernel served. Rules and routes say which program made them since 4.17
/// (`FRA_PROTOCOL`, include/uapi/linux/fib_rules.h); 4.19 is the first kernel with long support after it,
/// and what Alibaba Cloud Linux 2 runs.
const KERNEL_MIN: (u32, u32) = (4, 19);

/// What the first container is told.
#[derive(Args)]
pub(crate) struct InstallArgs {
    /// The plugin to install.
    #[arg(long, default_value = "/usr/local/bin/terway")]
    plugin: PathBuf,
    /// The node's directory of CNI plugins.
    #[arg(long, default_value = "/host/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Name of this node in the cluster, for an event when it cannot be served.
    #[arg(long, env = "NODE_NAME")]
    node_name: Option<String>,
}

/// Checks the node and installs the plugin; what was there stays as it is unless all goes well. Why it
/// did not is an event of the node too, because the agent, which sends the others, will not run.
pub(crate) fn run(arguments: &InstallArgs) -> anyhow::Result<()> {
    let outcome = install(arguments);
    if let (Err(error), Some(node)) = (&outcome, &arguments.node_name)
        && let Err(untold) = tell(node, &format!("{error:#}"))
    {
        tracing::warn!(error = format!("{untold:#}"), "no event tells of it");
    }
    outcome
}

/// An event of the node.
fn tell(node: &str, text: &str) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(notices::in_time(async {
        let client = kube::Client::try_default().await?;
        Notices::now(client, node, "NodeNotSupported", text).await
    }));
    Ok(())
}

fn install(arguments: &InstallArgs) -> anyhow::Result<()> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    check_kernel(&release)?;
    let target = arguments.bin_dir.join("terway");
    place(&arguments.plugin, &target)?;
    tracing::info!(kernel = %release, plugin = %target.display(), "the plugin is installed");
    Ok(())
}

fn check_kernel(release: &str) -> anyhow::Result<()> {
    let mut parts = release.split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        bail!("the node's kernel calls itself {release:?}, which is no version");
    };
    let (min_major, min_minor) = KERNEL_MIN;
    if (major, minor) < KERNEL_MIN {
        bail!(
            "the node's kernel is {release}, and Terway needs {min_major}.{min_minor} or newer; use a node image with one"
        );
    }
    Ok(())
}

/// Copies `source` to `target`: whoever runs it finds the old one or the new one, never half of one.
fn place(source: &Path, target: &Path) -> anyhow::Result<()> {
    let draft = target.with_extension("draft");
    fs::copy(source, &draft)
        .and_then(|_| fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::File::open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, target))
        .with_context(|| {
            let (source, target) = (source.display(), target.display());
            format!("installing {source} as {target}; is the node's directory mounted there?")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_with_both_versions() {
        for good in [
            "4.19.91-28.al7.x86_64",
            "5.10.134-16.al8.x86_64",
            "6.18.0",
            "10.1",
        ] {
            check_kernel(good).unwrap();
        }
        let old = check_kernel("3.10.0-1160.el7.x86_64")
            .unwrap_err()
            .to_string();
        assert!(old.contains("3.10.0-1160") && old.contains("4.19"), "{old}");
        assert!(check_kernel("rolling").is_err());
    }

    #[test]
    fn the_plugin_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (source, target) = (
            directory.path().join("new"),
            directory.path().join("terway"),
        );
        fs::write(&source, "two").unwrap();
        fs::write(&target, "one").unwrap();
        place(&source, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
        assert_eq!(
            fs::metadata(&target).unwrap().permissions().mode() & 0o777,
            0o755
        );
        let absent = directory.path().join("absent");
        assert!(
            place(&absent, &target)
                .unwrap_err()
                .to_string()
                .contains("mounted")
        );
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
    }
}
