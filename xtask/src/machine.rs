//! What this machine must have, and getting it: root, and packages of the distribution by name.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// For what the machine is prepared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The lab: nodes, fabric, programs.
    Lab,
    /// The lab, the tests' other sides, and the reference plugins.
    Tests,
    /// The lab, and another kernel to run tests under. Not every architecture has it.
    Guest,
}

/// A thing the machine needs: how to see that it is there, and which package brings it.
struct Thing {
    package: &'static str,
    /// A program in PATH, a file when it starts with '/', or a program and a module of it.
    sign: &'static str,
    what_for: &'static str,
    /// What the lab needs, all need.
    need: Need,
}

const fn thing(package: &'static str, sign: &'static str, what_for: &'static str) -> Thing {
    Thing {
        package,
        sign,
        what_for,
        need: Need::Lab,
    }
}

const fn tests(package: &'static str, sign: &'static str, what_for: &'static str) -> Thing {
    Thing {
        need: Need::Tests,
        ..thing(package, sign, what_for)
    }
}

const fn guest(package: &'static str, sign: &'static str, what_for: &'static str) -> Thing {
    Thing {
        need: Need::Guest,
        ..thing(package, sign, what_for)
    }
}

const THINGS: [Thing; 16] = [
    thing("clang", "clang", "compiles eBPF programs"),
    thing(
        "libbpf-dev",
        "/usr/include/bpf/bpf_helpers.h",
        "its headers",
    ),
    thing("gcc", "cc", "links the programs"),
    thing("iproute2", "ip", "builds and reads the lab's networks"),
    thing("util-linux", "nsenter", "makes and enters namespaces"),
    thing("kubernetes-client", "kubectl", "talks to the lab's cluster"),
    thing(
        "iputils-ping",
        "ping",
        "walks a packet and counts what is lost",
    ),
    thing(
        "containernetworking-plugins",
        "/usr/lib/cni/ptp",
        "what ADD is measured against",
    ),
    tests("openssl", "openssl", "makes the keys of a real cluster"),
    tests("iptables", "iptables", "carries kube-proxy's Services"),
    tests("conntrack", "conntrack", "forgets flows for kube-proxy"),
    tests(
        "nftables",
        "nft",
        "translates addresses in the conntrack tests",
    ),
    tests(
        "python3-venv",
        "python3:ensurepip",
        "runs the cloud's official SDK",
    ),
    guest("user-mode-linux", "linux.uml", "is the guest's kernel"),
    guest("kmod", "depmod", "finds the guest's modules"),
    guest("iptables", "iptables", "translates addresses in the guest"),
];

/// Makes sure this is root on Linux and that everything is there; installs what is missing.
pub(crate) fn prepare(need: Need) -> anyhow::Result<()> {
    if !is_root()? {
        bail!(
            "this needs root: it makes network namespaces, links and routes, and loads eBPF programs. \
             Everything stays inside namespaces it makes and removes. Try: sudo -E env PATH=\"$PATH\" cargo xtask ..."
        );
    }
    let wanted = THINGS
        .iter()
        .filter(|thing| thing.need == Need::Lab || thing.need == need);
    let missing: Vec<&Thing> = wanted.filter(|thing| !is_there(thing.sign)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for thing in &missing {
        eprintln!(
            "xtask: {} is missing ({}); installing Debian package {}",
            thing.sign, thing.what_for, thing.package
        );
    }
    let packages: Vec<&str> = missing.iter().map(|thing| thing.package).collect();
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install)?;
    for thing in missing {
        if !is_there(thing.sign) {
            bail!(
                "package {} was installed, but {} is still missing",
                thing.package,
                thing.sign
            );
        }
    }
    Ok(())
}

/// The effective user, from the kernel's own account of this process.
fn is_root() -> anyhow::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("reading /proc/self/status; this runs on Linux")?;
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default();
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

fn is_there(sign: &str) -> bool {
    if sign.starts_with('/') {
        return Path::new(sign).exists();
    }
    if let Some((program, module)) = sign.split_once(':') {
        // Debian has the interpreter without the module that makes virtual environments.
        let import = format!("import {module}");
        let imported = Command::new(program)
            .args(["-c", &import])
            .stderr(Stdio::null())
            .status();
        return imported.is_ok_and(|status| status.success());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin".into(), "/sbin".into()]);
    directories
        .iter()
        .any(|directory| directory.join(sign).exists())
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    eprintln!("xtask: apt-get {}", arguments.join(" "));
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("apt-get cannot be run; this knows Debian and its relatives")?;
    if !status.success() {
        bail!(
            "apt-get {} failed with {status}; install the packages by hand and try again",
            arguments.join(" ")
        );
    }
    Ok(())
}
