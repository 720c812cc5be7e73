//! Commands in a pod or on a node: entered by `nsenter`, in the namespaces and the cgroup of the place.

use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::node::BIN;

/// `command` in the pod whose namespaces the lab named as `place`, not started.
///
/// # Errors
/// When the place is no place.
pub(crate) fn pod(place: &Value, command: &[&str]) -> Result<Command> {
    let (Some(pid), Some(netns)) = (place["pid"].as_u64(), place["netns"].as_str()) else {
        bail!("the lab names no process and namespace: {place}");
    };
    // The pod's namespace file lies in the node's mounts, which nsenter has not entered yet.
    let nsenter = enter(pid, &format!("/proc/{pid}/root{netns}"), command);
    let Some(cgroup) = place["cgroup"].as_str() else {
        return Ok(nsenter);
    };
    // The command moves itself, so that whoever asked for it stays where it is.
    let mut moved = Command::new("sh");
    moved.args(["-c", r#"echo 0 > "$0" && exec "$@""#]);
    moved.arg(format!("{cgroup}/cgroup.procs"));
    moved.arg(nsenter.get_program()).args(nsenter.get_args());
    moved.envs(
        nsenter
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    Ok(moved)
}

/// `command` on the node whose first process is `pid`, not started.
pub(crate) fn node(pid: u64, command: &[&str]) -> Command {
    enter(pid, &format!("/proc/{pid}/ns/net"), command)
}

fn enter(pid: u64, network: &str, command: &[&str]) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--net={network}"));
    for (flag, file) in [
        ("mount", "mnt"),
        ("uts", "uts"),
        ("ipc", "ipc"),
        ("pid", "pid_for_children"),
    ] {
        nsenter.arg(format!("--{flag}=/proc/{pid}/ns/{file}"));
    }
    nsenter.env("PATH", format!("{BIN}:{path}"));
    nsenter.arg("--").args(command);
    nsenter
}
