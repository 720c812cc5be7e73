//! ADD and DEL measured as a container runtime sees them: the whole process, from its start to its
//! end, one round of each plugin after the other so that the machine's mood hits all alike.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tool;

/// What is measured where.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeBenchArgs {
    /// Rounds of ADD and DEL, of each plugin
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// ADDs at once in a round
    #[arg(long, default_value_t = 1)]
    parallel: u32,
    /// A pod that exists, as NAMESPACE/NAME
    #[arg(long)]
    pod: String,
    /// Its UID
    #[arg(long)]
    uid: String,
}

/// The same links, addresses, routes and rules by netlink alone, without agent, ledger or API server.
const FLOOR: &str = "/run/lab/bin/terway-floor";

/// A plugin under measurement.
struct Subject {
    name: &'static str,
    path: &'static str,
    config: Value,
    /// In the network namespace of the node.
    arguments: String,
}

/// Milliseconds of many calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) calls: usize,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// One plugin's ADD and DEL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) plugin: String,
    pub(crate) add: Times,
    pub(crate) del: Times,
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) parallel: u32,
    pub(crate) rows: Vec<Row>,
    pub(crate) calls: usize,
    pub(crate) failures: usize,
    pub(crate) first_failure: Option<String>,
}

impl Times {
    fn of(mut millis: Vec<f64>) -> Self {
        millis.sort_by(f64::total_cmp);
        let at = |per_cent: usize| {
            let index = (millis.len() * per_cent).div_ceil(100).saturating_sub(1);
            millis.get(index).copied().unwrap_or(f64::NAN)
        };
        Self {
            calls: millis.len(),
            min: at(0),
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl Report {
    /// The report as people read it.
    pub(crate) fn table(&self) -> Vec<Vec<String>> {
        let mut rows = vec![vec![
            "ms".to_owned(),
            "ADD p50".into(),
            "p99".into(),
            "DEL p50".into(),
            "p99".into(),
            "calls".into(),
        ]];
        let ms = |value: f64| format!("{value:.2}");
        for row in &self.rows {
            rows.push(vec![
                row.plugin.clone(),
                ms(row.add.p50),
                ms(row.add.p99),
                ms(row.del.p50),
                ms(row.del.p99),
                row.add.calls.to_string(),
            ]);
        }
        rows
    }
}

/// Measures on this node and prints the report.
///
/// # Errors
/// When a namespace cannot be made or a plugin cannot be started.
pub(crate) fn run(args: &NodeBenchArgs) -> Result<()> {
    let subjects = subjects(args)?;
    let mut adds: Vec<Vec<f64>> = subjects.iter().map(|_| Vec::new()).collect();
    let mut dels = adds.clone();
    let failures = AtomicUsize::new(0);
    let mut first_failure = None;
    for round in 0..args.rounds {
        for (at, subject) in subjects.iter().enumerate() {
            let outcomes = thread::scope(|scope| {
                let one =
                    |lane| scope.spawn(move || measure(subject, round * args.parallel + lane));
                let lanes: Vec<_> = (0..args.parallel).map(one).collect();
                let joined = lanes.into_iter().map(|lane| lane.join());
                joined
                    .map(|outcome| outcome.unwrap_or_else(|_| bail!("a lane panicked")))
                    .collect::<Vec<_>>()
            });
            for outcome in outcomes {
                match outcome {
                    Ok((add, del)) => {
                        adds[at].push(add);
                        dels[at].push(del);
                    }
                    Err(error) => {
                        failures.fetch_add(1, Ordering::Relaxed);
                        first_failure.get_or_insert_with(|| format!("{}: {error:#}", subject.name));
                    }
                }
            }
        }
    }
    let rows = subjects
        .iter()
        .zip(adds)
        .zip(dels)
        .map(|((subject, add), del)| Row {
            plugin: subject.name.to_owned(),
            add: Times::of(add),
            del: Times::of(del),
        });
    let report = Report {
        parallel: args.parallel,
        rows: rows.collect(),
        calls: usize::try_from(args.rounds * args.parallel)? * subjects.len() * 2,
        failures: failures.into_inner(),
        first_failure,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn subjects(args: &NodeBenchArgs) -> Result<Vec<Subject>> {
    let (namespace, name) = args
        .pod
        .split_once('/')
        .context("--pod wants NAMESPACE/NAME")?;
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={}",
        args.uid
    );
    let ours = json!({ "cniVersion": "0.4.0", "name": "terway-chainer", "type": "terway" });
    let ptp = json!({
        "cniVersion": "0.4.0", "name": "bench", "type": "ptp", "ipMasq": false,
        "ipam": {
            "type": "host-local", "subnet": "10.250.0.0/16", "dataDir": "/run/terway-bench",
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let mut subjects = vec![
        Subject {
            name: "terway",
            path: "/opt/cni/bin/terway",
            config: ours.clone(),
            arguments: arguments.clone(),
        },
        Subject {
            name: "ptp + host-local",
            path: "/usr/lib/cni/ptp",
            config: ptp,
            arguments: arguments.clone(),
        },
    ];
    if Path::new(FLOOR).exists() {
        subjects.push(Subject {
            name: "bare netlink",
            path: FLOOR,
            config: ours,
            arguments,
        });
    }
    Ok(subjects)
}

/// One ADD and one DEL in a namespace of their own, in milliseconds.
fn measure(subject: &Subject, number: u32) -> Result<(f64, f64)> {
    // The interface is not eth0, so that the real pod's own link has another name.
    let interface = format!("b{}", number % 100_000);
    let name = format!(
        "bench-{}-{number}",
        subject.name.split(' ').next().unwrap_or_default()
    );
    tool::run(&format!("ip netns add {name}"))?;
    let netns = format!("/run/netns/{name}");
    let add = call(subject, "ADD", &name, &netns, &interface);
    let del = call(subject, "DEL", &name, &netns, &interface);
    tool::run(&format!("ip netns del {name}"))?;
    Ok((add?, del?))
}

fn call(
    subject: &Subject,
    verb: &str,
    container: &str,
    netns: &str,
    interface: &str,
) -> Result<f64> {
    let input = subject.config.to_string();
    let begun = Instant::now();
    let mut plugin = Command::new(subject.path)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", interface)
        .env("CNI_ARGS", &subject.arguments)
        .env("CNI_PATH", "/usr/lib/cni")
        .env(
            "FLOOR_NUMBER",
            container.rsplit('-').next().unwrap_or_default(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", subject.path))?;
    if let Some(mut stdin) = plugin.stdin.take() {
        // A plugin that ends without reading tells why on its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = plugin.wait_with_output()?;
    let took = begun.elapsed();
    if !output.status.success() {
        bail!("{verb}: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(took.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let times = Times::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(
            (times.min, times.p50, times.p99, times.max),
            (1.0, 50.0, 99.0, 100.0)
        );
    }
}
