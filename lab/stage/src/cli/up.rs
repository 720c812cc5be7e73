//! A lab brought up and taken down.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{look, tree::tree};
use crate::{
    control::{Request, ask},
    kubernetes::{self, CONTROL_PLANE, Release},
    region::{RegionArgs, bin_dir},
    statedir::{DIR, StateDir, until},
};

/// How long the nodes may take to be ready: less than 1 s on an idle machine; a busy one with 50
/// nodes is a hundred times slower.
const UP_MAX: Duration = Duration::from_secs(120);
/// The same with a real Kubernetes: half a minute on an idle machine, most of it the API server's.
const REAL_UP_MAX: Duration = Duration::from_secs(300);
/// How long the region may take to end once it has promised to.
const DOWN_MAX: Duration = Duration::from_secs(30);
/// Lines of the region's log that are shown when it does not come up.
const LOG_SHOWN: usize = 5;

/// Programs of the distribution that the lab runs, and the package each is in.
const TOOLS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
];
/// Programs of ours that run in it.
const PROGRAMS: [&str; 3] = ["terway", "terwayd", "terway-probe"];

/// Brings a lab up and returns its status once all nodes are ready.
pub(crate) fn bring(dir: &StateDir, args: &RegionArgs) -> Result<Value> {
    bring_with(dir, args, true)
}

/// The same; the nodes of a real cluster, where nobody is to `install` the product, are only there.
fn bring_with(dir: &StateDir, args: &RegionArgs, install: bool) -> Result<Value> {
    let args = &preflight(args)?;
    let mut region = launch(dir, args)?;
    let nodes = usize::from(args.nodes);
    let come_up = |region: &mut Child| match args.kubernetes.kubernetes {
        None => wait(dir, region, UP_MAX, "ready", nodes),
        Some(_) => {
            wait(dir, region, REAL_UP_MAX, "nodes", nodes)?;
            if install {
                print!("{}", self::install(dir)?);
                wait(dir, region, REAL_UP_MAX, "ready", nodes)?;
            }
            Ok(())
        }
    };
    if let Err(error) = come_up(&mut region) {
        let log = fs::read_to_string(dir.log("region")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_SHOWN)..].join("\n");
        down(dir)?;
        return Err(error.context(format!("the lab did not come up; its log ends:\n{end}")));
    }
    look(dir)
}

/// Applies the product's manifests, as they lie in the lab's directory.
pub(super) fn install(dir: &StateDir) -> Result<String> {
    let installation = dir.installation();
    if !installation.exists() {
        bail!(
            "this lab's cluster is simulated and has the product already: run `terway-lab up --kubernetes DIR`"
        );
    }
    kubernetes::install(&installation, &dir.kubeconfig())
}

pub(super) fn up(dir: &StateDir, args: &RegionArgs, install: bool, detach: bool) -> Result<()> {
    println!("{}", tree(&bring_with(dir, args, install)?));
    print_hints(dir);
    if detach {
        return Ok(());
    }
    println!("\nCtrl-C takes the lab down.");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })?;
    down(dir)
}

/// Everything that can be missing, before anything is changed.
fn preflight(args: &RegionArgs) -> Result<RegionArgs> {
    if !rustix::process::geteuid().is_root() {
        bail!("a lab makes namespaces and loads eBPF: run it as root");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (tool, package) in TOOLS {
        if !std::env::split_paths(&path).any(|directory| directory.join(tool).exists()) {
            bail!("`{tool}` is not installed: run `apt-get install {package}`");
        }
    }
    let bin_dir = bin_dir(args)?;
    let control_plane = args.pool.controlled().then_some(CONTROL_PLANE);
    for program in PROGRAMS.into_iter().chain(control_plane) {
        if !bin_dir.join(program).exists() {
            let here = bin_dir.display();
            bail!("{here} holds no {program}: run `cargo build --release`, or name a --bin-dir");
        }
    }
    let mut args = args.clone();
    if let Some(directory) = &args.kubernetes.kubernetes {
        Release::at(directory)?;
        // `cargo xtask image` puts them beside the directory of the programs.
        let beside = || Some(bin_dir.parent()?.join("images"));
        args.kubernetes.images = args.kubernetes.images.or_else(beside);
        args.kubernetes.sources().context(
            "nodes with a real container runtime need images: run `cargo xtask image`, or name --images",
        )?;
    }
    Ok(args)
}

/// Starts the region process, which holds the directory's lock as its standard input.
fn launch(dir: &StateDir, args: &RegionArgs) -> Result<Child> {
    let lock = dir.claim()?;
    let log = File::create(dir.log("region")).context("cannot create the region's log")?;
    let mut region = Command::new(std::env::current_exe().context("cannot find my own program")?);
    region.arg("region").arg("--dir").arg(dir.path());
    region
        .arg("--bin-dir")
        .arg(fs::canonicalize(bin_dir(args)?)?);
    region.args(["--nodes", &args.nodes.to_string()]);
    region.args(["--instance-type", args.instance_type()]);
    region.args(args.one_zone.then_some("--one-zone"));
    region.args(args.pool.words());
    region.args(args.kubernetes.words()?);
    region.current_dir("/").stdin(Stdio::from(lock));
    region.stdout(log.try_clone()?).stderr(log);
    region.spawn().context("cannot start the region")
}

/// Waits until so many nodes are there, or are ready.
fn wait(
    dir: &StateDir,
    region: &mut Child,
    bound: Duration,
    what: &str,
    nodes: usize,
) -> Result<()> {
    let mut ended = None;
    let problem = match what {
        "ready" => "not all nodes are ready; their agents' logs may say why",
        _ => "not all nodes are there; `terway-lab logs` lists logs that may say why",
    };
    until(problem, bound, || {
        ended = region.try_wait().ok().flatten();
        let level =
            || ask(&dir.socket(), &Request::Ready).is_ok_and(|counts| counts[what] == nodes);
        ended.is_some() || level()
    })?;
    match ended {
        Some(status) => bail!("the region has ended with {status}"),
        None => Ok(()),
    }
}

fn print_hints(dir: &StateDir) {
    let mut lab = std::env::args().next().unwrap_or_default();
    if dir.path() != Path::new(DIR) {
        lab = format!("{lab} --dir {}", dir.path().display());
    }
    println!(
        "
export KUBECONFIG={}
kubectl run web --image=probe && kubectl run peer --image=probe
kubectl wait pod --all --for=condition=Ready && kubectl get pods -o wide
{lab} exec web -- terway-probe get http://$(kubectl get pod peer -o jsonpath={{.status.podIP}}):8080/
{lab} down",
        dir.kubeconfig().display()
    );
}

/// Takes the lab down, asked nicely if it can still be asked.
pub(crate) fn down(dir: &StateDir) -> Result<()> {
    if dir.is_up() {
        let asked = ask(&dir.socket(), &Request::Down)
            .and_then(|_| until("the region does not end", DOWN_MAX, || !dir.is_up()));
        if let Err(error) = asked {
            eprintln!("terway-lab: {error:#}; it is killed");
            dir.kill();
            until("the region does not end after SIGKILL", DOWN_MAX, || {
                !dir.is_up()
            })?;
        }
    }
    dir.remove()
}
