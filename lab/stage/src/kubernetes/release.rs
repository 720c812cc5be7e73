//! The programs of one Kubernetes, and what its version changes in how they are started.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::tool;

/// What a directory must hold.
const PROGRAMS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];
/// What it may hold; the distribution has them too.
const BESIDE: [(&str, &str); 4] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
];
/// Where the distribution has its own.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A version 1.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Minor(u32);

impl Minor {
    /// Reads what `kubelet --version` prints.
    fn parse(text: &str) -> Option<Self> {
        let (_, version) = text.trim().split_once(" v1.")?;
        version.split('.').next()?.parse().ok().map(Self)
    }

    /// The insecure ports, and the flag that closes them, are gone in 1.24.
    pub(super) fn has_insecure_ports(self) -> bool {
        self < Self(24)
    }

    /// Until 1.24 the built-in docker runtime has to be refused.
    pub(super) fn has_docker(self) -> bool {
        self < Self(24)
    }

    /// From 1.27 the runtime's socket is named in the kubelet's configuration, before by a flag.
    pub(super) fn configures_runtime(self) -> bool {
        self >= Self(27)
    }

    /// From 1.31 a kubelet has to be told that control groups of version 1 will do.
    pub(super) fn doubts_cgroup_v1(self) -> bool {
        self >= Self(31)
    }

    /// From 1.22 a DaemonSet may start the new pod before it ends the old one.
    pub(super) fn surges_daemon_sets(self) -> bool {
        self >= Self(22)
    }
}

/// A directory of programs.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    /// Where they are.
    pub(crate) directory: PathBuf,
    /// Which version.
    pub(crate) minor: Minor,
}

impl Release {
    /// The programs in `directory`.
    ///
    /// # Errors
    /// When one is missing, there or on the machine.
    pub(crate) fn at(directory: &Path) -> Result<Self> {
        let here = directory.display();
        for program in PROGRAMS {
            if !directory.join(program).exists() {
                bail!(
                    "{here} holds no {program}: `cargo xtask real-k8s` builds all, or name another --kubernetes"
                );
            }
        }
        for (program, package) in BESIDE {
            let mut places = SYSTEM.iter().map(Path::new).chain([directory]);
            if !places.any(|place| place.join(program).exists()) {
                bail!(
                    "neither {here} nor this machine has {program}: run `apt-get install {package}`"
                );
            }
        }
        let mut kubelet = Command::new(directory.join("kubelet"));
        kubelet.arg("--version");
        let said = tool::output("kubelet --version", kubelet)?;
        let minor =
            Minor::parse(&said).ok_or_else(|| anyhow!("no version of Kubernetes 1: {said}"))?;
        let directory =
            std::path::absolute(directory).with_context(|| format!("{here} is no directory"))?;
        Ok(Self { directory, minor })
    }

    /// The programs' search path: these before the distribution's.
    pub(super) fn path(&self) -> String {
        format!("{}:{}", self.directory.display(), SYSTEM.join(":"))
    }
}

#[cfg(test)]
impl Minor {
    pub(super) fn of(number: u32) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_a_kubelet_says_of_itself() {
        assert_eq!(Minor::parse("Kubernetes v1.20.2\n"), Some(Minor(20)));
        assert_eq!(
            Minor::parse("Kubernetes v1.33.0-rc.1+abc\n"),
            Some(Minor(33))
        );
        for text in [
            "",
            "Kubernetes v0.0.0-master+$Format:%H$",
            "Kubernetes v2.0.0",
        ] {
            assert_eq!(Minor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_directory_without_programs_says_what_to_run() {
        let refusal = Release::at(Path::new("/proc")).unwrap_err().to_string();
        assert!(refusal.contains("cargo xtask real-k8s"), "{refusal}");
    }
}
