//! What a node sees of the machine's files: the system read as it is, and `/run`, `/var`, `/etc`,
//! `/opt`, `/proc`, `/sys`, eBPF and control groups of its own.
//!
//! Everything is mounted in the node's own mount namespace, so nothing needs to be cleaned up. The
//! order matters: the lab's directory may lie below a directory that is hidden here.

use std::{ffi::CString, fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};
use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    },
    thread::UnshareFlags,
};

use super::{IMAGES, KUBERNETES, LAB, NodeArgs};
use crate::{
    cgroups::{self, Hierarchy},
    netns,
    statedir::StateDir,
};

/// What a kubelet sets in the one kernel that all nodes and this machine share. It finds its values
/// there and writes nothing.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

pub(super) fn arrange(dir: &StateDir, args: &NodeArgs) -> Result<()> {
    let trees = cgroups::hierarchies(args.kubernetes.is_some())?;
    join(&trees, &args.cgroup)?;
    let home = dir.node(&args.name);
    let run = home.join("run");
    fs::create_dir_all(home.join("var"))?;
    fs::create_dir_all(&run)?;
    fresh("tmpfs", &run, "mode=755")?;
    let own = ["node", "logs", "bin"].map(|name| format!("{LAB}/{name}"));
    let logs = dir.logs();
    let mut shown = vec![
        (own[0].as_str(), home.as_path()),
        (&own[1], &logs),
        (&own[2], &args.bin_dir),
    ];
    if let Some(kubernetes) = &args.kubernetes {
        shown.extend([
            (KUBERNETES, kubernetes.programs.as_path()),
            (IMAGES, &kubernetes.images),
        ]);
    }
    for (at, source) in shown {
        let target = run.join(at.trim_start_matches("/run/"));
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
    // What the machine itself has configured is no node's.
    fs::create_dir_all("/etc/cni")?;
    fresh("tmpfs", Path::new("/etc/cni"), "mode=755")?;
    for directory in ["/etc/cni/net.d", "/etc/eni", "/opt/cni/bin"] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {directory}"))?;
    }
    fresh("proc", Path::new("/proc"), "")?;
    fresh("sysfs", Path::new("/sys"), "")?;
    fresh("bpf", Path::new("/sys/fs/bpf"), "mode=700")?;
    show_groups(&trees)?;
    if args.kubernetes.is_some() {
        shield()?;
        // Volumes that are mounted on the node appear in its containers, and theirs on it.
        let everywhere = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        mount_change("/", everywhere).context("cannot share the mounts within the node")?;
    }
    Ok(())
}

/// Moves this process into a control group of its own in each tree, which it then takes for the root.
fn join(trees: &[Hierarchy], name: &str) -> Result<()> {
    for tree in trees {
        let group = tree.group(name);
        cgroups::create(&group)?;
        fs::write(group.join("cgroup.procs"), "0")
            .with_context(|| format!("cannot move into control group {}", group.display()))?;
    }
    netns::leave(UnshareFlags::NEWCGROUP).context("cannot take the control groups for the root")
}

/// Mounts the trees as the machine has them, each from the node's group downwards.
fn show_groups(trees: &[Hierarchy]) -> Result<()> {
    let at = Path::new("/sys/fs/cgroup");
    if let [only] = trees
        && only.controllers.is_none()
    {
        return fresh("cgroup2", at, "");
    }
    if trees.is_empty() {
        return Ok(());
    }
    fresh("tmpfs", at, "mode=755")?;
    for tree in trees {
        let target = at.join(tree.at.file_name().unwrap_or_default());
        fs::create_dir_all(&target)?;
        match &tree.controllers {
            None => fresh("cgroup2", &target, "")?,
            Some(name) if name.starts_with("name=") => {
                fresh("cgroup", &target, &format!("none,{name}"))?;
            }
            Some(controllers) => fresh("cgroup", &target, controllers)?,
        }
    }
    Ok(())
}

/// Puts files of the node's over the settings that it must not change.
fn shield() -> Result<()> {
    for (name, value) in KERNEL_SETTINGS {
        let (file, setting) = (
            Path::new("/run/lab/settings").join(name),
            Path::new("/proc/sys").join(name),
        );
        fs::create_dir_all(file.parent().unwrap_or(&file))?;
        fs::write(&file, format!("{value}\n"))?;
        if setting.exists() {
            bind(&file, &setting)?;
        }
    }
    Ok(())
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
