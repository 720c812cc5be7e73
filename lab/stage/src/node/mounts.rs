//! What a node sees of the machine's files: the system read as it is, and `/run`, `/var`, `/etc`,
//! `/opt`, `/proc`, `/sys`, eBPF and control groups of its own.
//!
//! Everything is mounted in the node's own mount namespace, so nothing needs to be cleaned up. The
//! order matters: the lab's directory may lie below a directory that is hidden here.

use std::{ffi::CString, fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};
use rustix::{
    mount::{MountFlags, mount, mount_bind, mount_bind_recursive},
    thread::UnshareFlags,
};

use super::NodeArgs;
use crate::{netns, statedir::StateDir};

pub(super) fn arrange(dir: &StateDir, args: &NodeArgs) -> Result<()> {
    if let Some(cgroup) = &args.cgroup {
        join(cgroup)?;
    }
    let home = dir.node(&args.name);
    let run = home.join("run");
    fs::create_dir_all(home.join("var"))?;
    fs::create_dir_all(&run)?;
    fresh("tmpfs", &run, "mode=755")?;
    for (name, source) in [
        ("node", home.as_path()),
        ("logs", &dir.logs()),
        ("bin", &args.bin_dir),
    ] {
        let target = run.join("lab").join(name);
        fs::create_dir_all(&target)?;
        bind(source, &target)?;
    }
    mount_bind_recursive(&run, "/run").context("cannot mount /run")?;
    // From here on only what is below /run/lab is sure to be visible.
    fs::create_dir_all("/run/netns")?;
    bind(Path::new("/run/netns"), Path::new("/run/netns"))?;
    for name in ["lib", "log", "tmp", "cache"] {
        fs::create_dir_all(Path::new("/run/lab/node/var").join(name))?;
    }
    symlink("/run", "/run/lab/node/var/run").context("cannot link /var/run")?;
    bind(Path::new("/run/lab/node/var"), Path::new("/var"))?;
    overlay("/etc")?;
    fresh("tmpfs", Path::new("/opt"), "mode=755")?;
    for directory in ["/etc/cni/net.d", "/etc/eni", "/opt/cni/bin"] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {directory}"))?;
    }
    fresh("proc", Path::new("/proc"), "")?;
    fresh("sysfs", Path::new("/sys"), "")?;
    fresh("bpf", Path::new("/sys/fs/bpf"), "mode=700")?;
    if args.cgroup.is_some() {
        fresh("cgroup2", Path::new("/sys/fs/cgroup"), "")?;
    }
    Ok(())
}

/// Moves this process into a cgroup of its own, which it then takes for the root.
fn join(cgroup: &Path) -> Result<()> {
    fs::create_dir_all(cgroup)
        .and_then(|()| fs::write(cgroup.join("cgroup.procs"), "0"))
        .and_then(|()| netns::leave(UnshareFlags::NEWCGROUP))
        .with_context(|| format!("cannot move into cgroup {}", cgroup.display()))
}

fn fresh(kind: &str, target: &Path, options: &str) -> Result<()> {
    let data = CString::new(options)?;
    mount(
        kind,
        target,
        kind,
        MountFlags::empty(),
        Some(data.as_c_str()),
    )
    .with_context(|| format!("cannot mount {kind} at {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount_bind(source, target)
        .with_context(|| format!("cannot mount {} at {}", source.display(), target.display()))
}

/// A writable view of a directory of the machine; what is written lies in the node's `/run`.
fn overlay(directory: &str) -> Result<()> {
    let layers = format!("/run/lab/overlay{directory}");
    let [upper, work] = ["upper", "work"].map(|layer| format!("{layers}/{layer}"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!("lowerdir={directory},upperdir={upper},workdir={work}");
    fresh("overlay", Path::new(directory), &options)
}
