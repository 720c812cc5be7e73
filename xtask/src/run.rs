//! Demo, tests and benchmarks: what is run, in which order, and how long it took.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{
    build::{cargo, must, programs, programs_dir, root, target},
    image, kubernetes,
    machine::{Need, prepare},
    tidy,
    tiers::{KUBERNETES, LeftOut, test_in_guest, test_program, test_with, tests_of, tests_without},
};

/// One tier of tests.
struct Tier {
    /// What `--tier` calls it.
    ids: &'static [&'static str],
    name: &'static str,
    /// What it may take on two cores once everything is built.
    budget: Duration,
    run: fn() -> anyhow::Result<()>,
    quick: bool,
}

const fn tier(
    ids: &'static [&'static str],
    name: &'static str,
    seconds: u64,
    quick: bool,
    run: fn() -> anyhow::Result<()>,
) -> Tier {
    Tier {
        ids,
        name,
        budget: Duration::from_secs(seconds),
        run,
        quick,
    }
}

const TIERS: [Tier; 8] = [
    tier(
        &["t0", "tidy"],
        "T0 tidy, format, lints, documentation",
        300,
        true,
        t0,
    ),
    tier(
        &["t1", "unit"],
        "T1 unit, golden and property tests",
        120,
        true,
        t1,
    ),
    tier(
        &["t2", "sim"],
        "T2 the simulator: seeds, named failures, the corpus",
        120,
        true,
        t2,
    ),
    tier(
        &["t3", "kernel"],
        "T3 the kernel, in network namespaces",
        120,
        true,
        t3,
    ),
    tier(
        &["t4", "lab"],
        "T4 the lab: real programs, traffic, a cluster",
        300,
        false,
        t4,
    ),
    tier(
        &["t4-demo", "demo"],
        "T4 demo, whole and broken on purpose",
        300,
        false,
        t4_demo,
    ),
    tier(
        &["t5", "guest"],
        "T5 the kernel's tests under another kernel, in a guest",
        120,
        false,
        t5,
    ),
    tier(
        &["t6", "real-k8s"],
        "T6 the lab with a real Kubernetes: kubelets, containerd, kube-proxy",
        480,
        false,
        t6,
    ),
];

/// Packages whose tests need neither root nor the network.
const PURE: [&str; 12] = [
    "terway-model",
    "terway-engine",
    "terway-wire",
    "terway-cloud",
    "terway-crd",
    "terway-herald",
    "terwayd",
    "terway-controlplane",
    "terway-cni",
    "terway-cli",
    "terway-probe",
    "xtask",
];

/// The simulated cloud and cluster, with the official SDK and kubectl at the other side, and damaged bytes.
const SIMULATED: [&str; 3] = ["terway-cloudsim", "terway-kubesim", "terway-fuzz"];

/// The lab's test program that wants a real Kubernetes.
const REAL: &str = "real";

/// The release that it upgrades to: the same sources under another name.
const NEXT: &str = "0.1.1";

/// Names it the program that holds the API conversations.
const CONVERSATIONS: &str = "TERWAY_CONVERSATIONS";

pub(crate) fn demo(arguments: &[String]) -> anyhow::Result<()> {
    prepare(Need::Lab)?;
    progress("building the programs; the first time takes several minutes on two cores");
    let begun = Instant::now();
    programs()?;
    progress(&format!(
        "built in {} s; the demo takes about 20 s",
        begun.elapsed().as_secs()
    ));
    must(lab("demo", arguments), "the demo")
}

pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<()> {
    prepare(Need::Lab)?;
    programs()?;
    let mut bench = lab("bench", arguments);
    bench.arg("--write").arg(root().join("docs/benchmarks.md"));
    must(bench, "the benchmark")
}

fn lab(command: &str, arguments: &[String]) -> Command {
    let mut lab = Command::new(programs_dir().join("terway-lab"));
    lab.arg(command).args(arguments);
    lab
}

fn progress(text: &str) {
    eprintln!("xtask: {text}");
}

/// The tiers that are asked for.
fn chosen(quick: bool, only: Option<&str>) -> anyhow::Result<Vec<&'static Tier>> {
    let Some(only) = only else {
        return Ok(TIERS.iter().filter(|tier| !quick || tier.quick).collect());
    };
    let wanted = only.to_lowercase();
    let found: Vec<&Tier> = TIERS
        .iter()
        .filter(|tier| tier.ids.contains(&&*wanted))
        .collect();
    if found.is_empty() {
        let ids = TIERS.iter().flat_map(|tier| tier.ids.iter().copied());
        bail!(
            "there is no tier {only}, but {}",
            ids.collect::<Vec<_>>().join(", ")
        );
    }
    Ok(found)
}

pub(crate) fn test(quick: bool, only: Option<&str>) -> anyhow::Result<()> {
    let tiers = chosen(quick, only)?;
    prepare(Need::Tests)?;
    let begun = Instant::now();
    let mut failed = Vec::new();
    let mut table = Vec::new();
    for tier in tiers {
        progress(&format!(
            "{} (budget {} s once built)",
            tier.name,
            tier.budget.as_secs()
        ));
        let started = Instant::now();
        let result = (tier.run)();
        let seconds = started.elapsed().as_secs();
        let verdict = match &result {
            Ok(()) => "passed",
            Err(_) => "FAILED",
        };
        table.push(format!("{verdict}  {seconds:>5} s  {}", tier.name));
        if let Err(error) = result {
            eprintln!("xtask: {}: {error:#}", tier.name);
            failed.push(tier.name);
        }
    }
    println!(
        "\n{}\n{} s in all",
        table.join("\n"),
        begun.elapsed().as_secs()
    );
    println!(
        "{} passed, {} failed",
        table.len() - failed.len(),
        failed.len()
    );
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(())
}

fn t0() -> anyhow::Result<()> {
    tidy::run()?;
    must(cargo(&["fmt", "--all", "--check"]), "cargo fmt --check")?;
    let mut clippy = cargo(&[
        "clippy",
        "--release",
        "--locked",
        "--workspace",
        "--all-targets",
        "--quiet",
    ]);
    clippy.args(["--", "-D", "warnings"]);
    must(clippy, "clippy")?;
    let mut doc = cargo(&[
        "doc",
        "--release",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    must(doc, "cargo doc")
}

fn t1() -> anyhow::Result<()> {
    tests_of(&PURE)?;
    tests_of(&SIMULATED)
}

fn t2() -> anyhow::Result<()> {
    tests_of(&["terway-sim"])
}

fn t3() -> anyhow::Result<()> {
    tests_without(&["terway-datapath"], &NOT_HERE)
}

fn t4() -> anyhow::Result<()> {
    programs()?;
    tests_of(&["terway-lab"])
}

/// What of the kernel's tests is for the guest alone.
const NOT_HERE: [LeftOut; 1] = [(
    "ipvlan_pods::",
    "tier T5 has them: not every kernel has ipvlan",
)];

/// What of them is not for the guest.
const NOT_IN_GUEST: [LeftOut; 10] = [
    ("flows::", NO_TABLES),
    ("heal::tables_of_ours", NO_TABLES),
    (
        "heal::somebody_elses_link",
        "a link that is no veth is a tap, for which the guest has no device",
    ),
    ("masquerade::", NO_TABLES),
    ("own_eni::", NO_TABLES),
    ("return_path::", NO_TABLES),
    ("trunk::a_probe_of_the_node", NO_TABLES),
    ("trunk::what_came_in_by_the_nodes_own_eni", NO_TABLES),
    ("wire::fragments", NO_TABLES),
    (
        "wire::a_stream",
        "64 MiB through a kernel that interprets eBPF",
    ),
];
const NO_TABLES: &str = "the guest's kernel has nf_tables without a family for IP";

/// Several times what it takes on two idle cores, since a guest that hangs must end too.
const GUEST_WITHIN: Duration = Duration::from_secs(600);

fn t5() -> anyhow::Result<()> {
    prepare(Need::Guest)?;
    test_in_guest("terway-datapath", "kernel", &NOT_IN_GUEST, GUEST_WITHIN)
}

/// The cluster is real, and so are the images that it runs.
fn t6() -> anyhow::Result<()> {
    let kubernetes = kubernetes::build()?;
    programs()?;
    // The next release first: what is built last stays.
    let images = target().join("images");
    image::run(None, Some(images.join("next")), Some(NEXT))?;
    image::run(None, Some(images), None)?;
    let conversations = test_program("terway-kubesim", "conversations")?;
    let variables = [
        (KUBERNETES, kubernetes.as_path()),
        (CONVERSATIONS, &conversations),
    ];
    test_with("terway-lab", REAL, &variables)
}

/// The demo passes, and goes red where something is broken on purpose.
fn t4_demo() -> anyhow::Result<()> {
    programs()?;
    let run = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        lab("demo", &arguments).output()
    };
    let whole = run(&["--json"])?;
    if !whole.status.success() {
        bail!(
            "the demo failed:\n{}{}",
            String::from_utf8_lossy(&whole.stdout),
            String::from_utf8_lossy(&whole.stderr)
        );
    }
    for (what, check) in [("rule", "ping"), ("spoof", "spoof"), ("leak", "bill")] {
        let broken = run(&["--json", "--break", what])?;
        let text = String::from_utf8_lossy(&broken.stdout);
        let failed = failed_checks(&text)?;
        if broken.status.success() || failed != [check] {
            bail!(
                "demo --break {what} must fail check {check} and no other; it failed {failed:?}:\n{text}"
            );
        }
        println!("demo --break {what}: check {check} failed, as it must");
    }
    Ok(())
}

fn failed_checks(text: &str) -> anyhow::Result<Vec<String>> {
    let document: serde_json::Value = serde_json::from_str(text)?;
    let checks = document["checks"].as_array().cloned().unwrap_or_default();
    let failed = checks.iter().filter(|check| check["ok"] != true);
    Ok(failed
        .filter_map(|check| Some(check["name"].as_str()?.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_chosen_by_number_or_name_and_all_without() {
        let names = |quick, only| -> Vec<&str> {
            let tiers = chosen(quick, only).unwrap();
            tiers.iter().map(|tier| tier.ids[0]).collect()
        };
        assert_eq!(names(false, Some("T6")), ["t6"]);
        assert_eq!(names(false, Some("real-k8s")), ["t6"]);
        assert_eq!(names(false, None).len(), TIERS.len());
        assert_eq!(names(true, None), ["t0", "t1", "t2", "t3"]);
        assert!(chosen(false, Some("t9")).is_err());
    }
}
