//! The benchmark: a node with pods on it, and ADD and DEL of ours and of others in turns.

mod node;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

pub(crate) use self::node::{NodeBenchArgs, Report, run as node};
use crate::{
    cli::{inside, up},
    node::BIN,
    region::{KubernetesArgs, PoolArgs, RegionArgs},
    statedir::StateDir,
    tool,
};

/// How long pods may take to run.
const PODS_MAX: Duration = Duration::from_secs(120);

/// What the whole measurement is run with.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Rounds of ADD and DEL of each plugin
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Pods on the node meanwhile
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50])]
    pods: Vec<u32>,
    /// ADDs at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    parallel: Vec<u32>,
    /// Write the tables into this file
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Brings a lab of one node up, measures, prints, takes it down.
///
/// # Errors
/// When the lab does not come up, or any call of any plugin failed.
pub(crate) fn lab(dir: &StateDir, args: &BenchArgs) -> Result<()> {
    let pool = PoolArgs {
        min_pool_size: 40,
        max_pool_size: 80,
        ip_cooldown: "1s".into(),
        prefixes: None,
        trunk: false,
        vpc: false,
    };
    let region = RegionArgs {
        nodes: 1,
        bin_dir: None,
        instance_type: None,
        one_zone: false,
        pool,
        kubernetes: KubernetesArgs::default(),
    };
    let status = up::bring(dir, &region)?;
    let pid = status["nodes"][0]["pid"]
        .as_u64()
        .context("the node has no process")?;
    let measured = measure(dir, pid, args);
    up::down(dir)?;
    let sections = measured?;
    println!("{sections}");
    if let Some(path) = &args.write {
        let text = format!("{HEAD}{sections}{FOOT}");
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

const HEAD: &str = "# Benchmarks

Made by `cargo xtask bench`. Whole processes as a container runtime sees them: from the plugin's start to
its end, in milliseconds. The subjects take turns within one run; compare columns of one table, not
tables of two runs. `ptp + host-local` are the reference plugins of the distribution (a veth pair and an
address from a file, no cloud, no policy routing). `bare netlink` makes the same links, addresses,
routes and rules as ours in one process, without agent, ledger, API server or durable write: the floor.
";

const FOOT: &str = "
DEL is nearly all the kernel: deleting a veth pair waits until no CPU can hold a packet of it.
";

fn measure(dir: &StateDir, pid: u64, args: &BenchArgs) -> Result<String> {
    let mut sections = String::new();
    let mut there = 0;
    for pods in &args.pods {
        for number in there..*pods {
            start_pod(dir, number)?;
        }
        there = (*pods).max(there);
        wait_running(dir, there)?;
        for parallel in &args.parallel {
            let report = on_node(dir, pid, args.rounds / parallel, *parallel)?;
            if let Some(failure) = &report.first_failure {
                bail!(
                    "{} of {} calls failed, the first: {failure}",
                    report.failures,
                    report.calls
                );
            }
            sections.push_str(&format!(
                "\n## {there} pods on the node, {parallel} at once\n\n"
            ));
            sections.push_str(&markdown(&report));
        }
    }
    Ok(sections)
}

fn markdown(report: &Report) -> String {
    let table = report.table();
    let mut lines: Vec<String> = table
        .iter()
        .map(|row| format!("| {} |", row.join(" | ")))
        .collect();
    let columns = table.first().map(Vec::len).unwrap_or_default();
    lines.insert(1, format!("|{}", "---|".repeat(columns)));
    lines.push(String::new());
    lines.join("\n")
}

fn kubectl(dir: &StateDir, arguments: &[&str]) -> Result<String> {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(arguments).env("KUBECONFIG", dir.kubeconfig());
    tool::output(&format!("kubectl {}", arguments.join(" ")), kubectl)
}

fn start_pod(dir: &StateDir, number: u32) -> Result<()> {
    let overrides = json!({ "spec": { "terminationGracePeriodSeconds": 1 } });
    let overrides = format!("--overrides={overrides}");
    kubectl(
        dir,
        &[
            "run",
            &format!("bench-{number}"),
            "--image=probe",
            &overrides,
        ],
    )
    .map(drop)
}

fn wait_running(dir: &StateDir, pods: u32) -> Result<()> {
    let begun = Instant::now();
    loop {
        let phases = kubectl(
            dir,
            &["get", "pods", "-o", "jsonpath={.items[*].status.phase}"],
        )?;
        if phases
            .split_whitespace()
            .filter(|phase| *phase == "Running")
            .count()
            == pods as usize
        {
            return Ok(());
        }
        if begun.elapsed() > PODS_MAX {
            bail!("not all of {pods} pods run within {PODS_MAX:?}: {phases}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn on_node(dir: &StateDir, pid: u64, rounds: u32, parallel: u32) -> Result<Report> {
    let uid = kubectl(
        dir,
        &["get", "pod", "bench-0", "-o", "jsonpath={.metadata.uid}"],
    )?;
    let me = format!("{BIN}/terway-lab");
    let (rounds, parallel) = (rounds.to_string(), parallel.to_string());
    let command = [
        me.as_str(),
        "bench-node",
        "--rounds",
        &rounds,
        "--parallel",
        &parallel,
        "--pod",
        "default/bench-0",
        "--uid",
        &uid,
    ];
    let output = tool::output("bench-node on the node", inside::node(pid, &command))?;
    serde_json::from_str(&output).context("reading the measurement")
}
