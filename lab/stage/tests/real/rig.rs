//! A lab with a real Kubernetes: `terway-lab` and `kubectl` as people use them, and looks at what is left.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::Footprint;

/// How long anything may take that takes seconds on an idle machine; deleting a pod takes a kubelet up to
/// 12 s, and a container that was killed comes back after 10 s.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked; and where a time is measured.
const POLL: Duration = Duration::from_millis(250);
pub(crate) const POLL_QUICK: Duration = Duration::from_millis(50);

/// The nodes.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];
/// Idle addresses that a node keeps ready, and has at rest at the least.
pub(crate) const POOL: u64 = 5;

/// Waits until `level` is `Ok`, a bounded time, and fails with what it said last.
pub(crate) fn until<T>(what: &str, mut level: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match level() {
            Ok(reached) => return reached,
            Err(why) => assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}: {why}"
            ),
        }
        thread::sleep(POLL);
    }
}

/// `Ok` if `holds`, else what is seen instead.
pub(crate) fn level(holds: bool, seen: impl std::fmt::Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen.to_string()) }
}

/// The entries of a list.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A lab that is up; taken down when dropped.
pub(crate) struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// Two nodes without the product.
    pub(crate) fn up(kubernetes: &Path) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "a lab makes namespaces and loads eBPF: run this as root"
        );
        let dir = env_temp(&format!("lab-real-{}", std::process::id()));
        let lab = Self { dir };
        let pool = POOL.to_string();
        let kubernetes = kubernetes.to_str().unwrap();
        lab.run_ok(&[
            "up",
            "--detach",
            "--no-install",
            "--nodes",
            "2",
            // One whose instances can have a trunk ENI.
            "--instance-type",
            "ecs.g6.16xlarge",
            "--kubernetes",
            kubernetes,
            "--min-pool-size",
            &pool,
            "--max-pool-size",
            &pool,
            "--ip-cooldown",
            "1s",
        ]);
        lab
    }

    /// `terway-lab` with the lab's directory after the verb, not started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_terway-lab"));
        command.arg(verb).arg("--dir").arg(&self.dir).args(rest);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn run_ok(&self, arguments: &[&str]) -> String {
        text(arguments, self.run(arguments)).unwrap_or_else(|why| panic!("{why}"))
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.run_ok(&["status", "--json"])).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Value {
        let status = self.status();
        let node = list(&status["nodes"]).find(|node| node["name"] == name);
        node.unwrap().clone()
    }

    /// The cluster's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// `kubectl` with `input`, or what it says when it fails.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(self.kubeconfig());
        kubectl.args(arguments);
        kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        text(arguments, child.wait_with_output().unwrap())
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// What the API server warns of.
    pub(crate) fn warnings(&self, arguments: &[&str]) -> String {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(self.kubeconfig());
        let output = kubectl.args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        text(arguments, output).unwrap_or_else(|why| panic!("{why}"));
        said
    }

    pub(crate) fn apply(&self, object: &Value) {
        self.apply_text(&object.to_string());
    }

    /// Applies a document as it stands in a file.
    pub(crate) fn apply_text(&self, document: &str) {
        let applied = self.kubectl_with(&["apply", "-f", "-"], document);
        applied.unwrap_or_else(|why| panic!("{why}"));
    }

    /// A `kubectl get` as documents.
    pub(crate) fn get(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat());
        let document: Value = serde_json::from_str(&text).unwrap();
        match document["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![document],
        }
    }

    /// `terway-probe` in a pod's network, or what it says when it fails.
    pub(crate) fn probe(&self, pod: &str, arguments: &[&str]) -> Result<Value, String> {
        let words = [&["exec", pod, "--", "terway-probe"], arguments].concat();
        let said = text(&words, self.run(&words))?;
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|error| format!("{error}: {said}"))
    }

    /// A command in a node's own network, which must not fail.
    pub(crate) fn command_on(&self, node: &str, command: &[&str]) {
        self.try_on(node, command)
            .unwrap_or_else(|why| panic!("{why}"));
    }

    fn try_on(&self, node: &str, command: &[&str]) -> Result<String, String> {
        let pid = self.node(node)["pid"].to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net=/proc/{pid}/ns/net")).arg("--");
        text(command, nsenter.args(command).output().unwrap())
    }

    /// `terway-probe` in a node's own network, or what it says when it fails.
    pub(crate) fn probe_on(&self, node: &str, arguments: &[&str]) -> Result<Value, String> {
        let probe = Path::new(env!("CARGO_BIN_EXE_terway-lab")).with_file_name("terway-probe");
        let said = self.try_on(node, &[&[probe.to_str().unwrap()], arguments].concat())?;
        serde_json::from_str(said.lines().last().unwrap_or_default())
            .map_err(|error| format!("{error}: {said}"))
    }

    /// `terway-probe` in a pod's network, left running; it is in there when this returns.
    pub(crate) fn probe_beside(&self, pod: &str, arguments: &[&str]) -> Child {
        let words = [&["exec", pod, "--", "terway-probe"], arguments].concat();
        let mut command = self.command(&words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // The lab asks the node's runtime where the pod is, and then becomes what enters it.
        until("the probe is in the pod", || {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", child.id()));
            let line = line.unwrap_or_default();
            level(line.starts_with("nsenter"), line)
        });
        child
    }

    /// Takes the lab down and looks for processes, control groups, mounts and files of it.
    pub(crate) fn down_leaves_nothing(&self) {
        let footprint = Footprint::of(&self.dir, &self.status());
        self.run_ok(&["down"]);
        footprint.is_gone(&self.dir);
    }

    /// What somebody wants to see who reads that a check has failed.
    pub(crate) fn show(&self) {
        for arguments in [
            &["get", "pods", "--all-namespaces", "-o", "wide"][..],
            &[
                "get",
                "events",
                "--all-namespaces",
                "--sort-by=.lastTimestamp",
            ],
            &[
                "logs",
                "--namespace=kube-system",
                "--selector=app=terway",
                "--tail=40",
            ],
            &[
                "logs",
                "--namespace=kube-system",
                "--selector=app=terway-controlplane",
                "--tail=60",
            ],
        ] {
            let shown = self.kubectl_with(arguments, "");
            eprintln!(
                "== kubectl {}\n{}",
                arguments.join(" "),
                shown.unwrap_or_else(|why| why)
            );
        }
        for log in ["region", "node-1", "node-2"] {
            let output = self.run(&["logs", log]);
            eprintln!("== {log}\n{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn env_temp(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

fn text(arguments: &[&str], output: Output) -> Result<String, String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let out = String::from_utf8_lossy(&output.stdout);
        return Err(format!(
            "{arguments:?} ended with {}: {said}{out}",
            output.status
        ));
    }
    Ok(String::from_utf8(output.stdout).unwrap())
}
