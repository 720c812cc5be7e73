//! Control groups: where they are mounted, and one of the lab's in each hierarchy.
//!
//! A machine has one tree (version 2), a tree for each controller (version 1), or both. It knows
//! nothing of what runs in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::statedir::until;

/// How long the kernel may take to free the groups of killed processes. It takes milliseconds; a
/// machine that swaps takes seconds.
const EMPTY_MAX: Duration = Duration::from_secs(10);

/// A tree of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) at: PathBuf,
    /// The mount options that name its controllers; `None` is version 2.
    pub(crate) controllers: Option<String>,
    /// The group that a group of ours is made in.
    parent: PathBuf,
}

impl Hierarchy {
    /// Where the group `name` of ours is, made or not.
    pub(crate) fn group(&self, name: &str) -> PathBuf {
        self.parent.join(name)
    }
}

/// The hierarchies mounted here: the version 2 one, if any, first, and the others if `all` are wanted.
///
/// # Errors
/// When the kernel's lists cannot be read.
pub(crate) fn hierarchies(all: bool) -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup").context("cannot read my control groups")?;
    let mut found = parse(&mounts, &own);
    found.retain(|tree| all || tree.controllers.is_none());
    for hierarchy in &mut found {
        // Inside a container the list may name groups that its mounts do not show.
        if !hierarchy.parent.is_dir() {
            hierarchy.parent.clone_from(&hierarchy.at);
        }
    }
    Ok(found)
}

/// Reads proc(5) `mounts` and cgroups(7) `/proc/PID/cgroup`.
fn parse(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = mounts
        .lines()
        .filter_map(|line| mounted(line, own))
        .collect();
    found.sort_by(|one, other| one.controllers.cmp(&other.controllers));
    found.dedup_by(|one, other| one.controllers == other.controllers);
    found
}

fn mounted(line: &str, own: &str) -> Option<Hierarchy> {
    let mut fields = line.split(' ').skip(1);
    let (at, kind, options) = (
        PathBuf::from(fields.next()?),
        fields.next()?,
        fields.next()?,
    );
    match kind {
        // Groups of ours lie at the top: one below a service manager's may not have processes.
        "cgroup2" => Some(Hierarchy {
            parent: at.clone(),
            at,
            controllers: None,
        }),
        "cgroup" => {
            let (controllers, group) = own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, group) = (fields.next()?, fields.next()?);
                let mut words = controllers.split(',');
                let ours = words.all(|word| options.split(',').any(|option| option == word));
                (ours && !controllers.is_empty()).then_some((controllers, group))
            })?;
            Some(Hierarchy {
                parent: at.join(group.trim_start_matches('/')),
                at,
                controllers: Some(controllers.to_owned()),
            })
        }
        _ => None,
    }
}

/// Makes a group. In a tree with `cpuset` it gets its parent's processors and memory, without which
/// no process may enter it.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn create(group: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(group)?;
        let parent = group.parent().unwrap_or(group);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Version 2 takes an empty list for the parent's.
            if parent.join(file).exists() && !group.join("cgroup.controllers").exists() {
                fs::write(group.join(file), fs::read(parent.join(file))?)?;
            }
        }
        Ok(())
    };
    make().with_context(|| format!("cannot make control group {}", group.display()))
}

/// Removes a group and those below it, which end with their processes.
///
/// # Errors
/// When processes stay in it.
pub(crate) fn remove(group: &Path) -> Result<()> {
    until("the lab's control groups do not empty", EMPTY_MAX, || {
        remove_below(group);
        !group.exists()
    })
}

fn remove_below(group: &Path) {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_below(&entry.path());
    }
    // One that still has processes is tried again.
    let _ = fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
";

    #[test]
    fn a_machine_with_both_versions_has_every_tree_once() {
        let own = "4:memory:/user/7\n3:name=systemd:/\n2:cpuacct,cpu:/\n0::/user/7\n";
        let found = parse(&format!("{HYBRID}{HYBRID}"), own);
        let seen: Vec<_> = found
            .iter()
            .map(|tree| (tree.controllers.as_deref(), tree.group("lab")))
            .collect();
        let expected = [
            (None, "/sys/fs/cgroup/unified/lab"),
            (Some("cpuacct,cpu"), "/sys/fs/cgroup/cpu,cpuacct/lab"),
            (Some("memory"), "/sys/fs/cgroup/memory/user/7/lab"),
            (Some("name=systemd"), "/sys/fs/cgroup/systemd/lab"),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(one, other)| (*one, PathBuf::from(other)))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_machine_without_any_has_none() {
        assert!(parse("proc /proc proc rw 0 0\n", "0::/\n").is_empty());
        assert!(parse("garbage", "").is_empty());
    }
}
