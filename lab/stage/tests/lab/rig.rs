//! A lab for a test: the command line as people use it, and looks at what it leaves on the machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::support::Footprint;

/// How long anything may take that takes milliseconds on an idle machine, or 2 s where an ENI is
/// attached first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `level` holds.
pub(crate) fn until(what: &str, mut level: impl FnMut() -> bool) {
    let began = Instant::now();
    while !level() {
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// The addresses of a prefix as they are written.
pub(crate) fn addresses(prefix: model::Ipv4Prefix) -> impl Iterator<Item = String> {
    prefix.addresses().map(|address| address.to_string())
}

/// A lab that is up; taken down when dropped.
pub(crate) struct Lab {
    dir: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    pub(crate) fn up(name: &str, nodes: u32) -> Self {
        Self::up_with(name, nodes, &[])
    }

    /// A lab that comes up with further `options`.
    pub(crate) fn up_with(name: &str, nodes: u32, options: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "a lab makes namespaces and loads eBPF: run these tests as root"
        );
        let dir = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let lab = Self { dir, runtime };
        lab.start_with(nodes, options);
        lab
    }

    pub(crate) fn start(&self, nodes: u32) {
        self.start_with(nodes, &[]);
    }

    fn start_with(&self, nodes: u32, options: &[&str]) {
        let bin_dir = programs().to_str().unwrap();
        let nodes = nodes.to_string();
        let usual = ["up", "--detach", "--nodes", &nodes, "--bin-dir", bin_dir];
        self.run_ok(&[&usual, options].concat());
    }

    /// `terway-lab` with the lab's directory after the verb.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_terway-lab"));
        command
            .arg(verb)
            .arg("--dir")
            .arg(&self.dir)
            .args(rest)
            .output()
            .unwrap()
    }

    pub(crate) fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kubectl` with the lab's cluster.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(self.dir.join("kubeconfig"));
        let output = kubectl.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kubectl apply` of a document.
    pub(crate) fn apply(&self, document: &str) {
        let file = self.dir.join("applied");
        fs::write(&file, document).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    pub(crate) fn exec_ok(&self, pod: &str, command: &[&str]) {
        self.run_ok(&[&["exec", pod, "--"], command].concat());
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.run_ok(&["status", "--json"])).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Value {
        let status = self.status();
        let nodes = status["nodes"].as_array().unwrap();
        nodes
            .iter()
            .find(|node| node["name"] == name)
            .unwrap()
            .clone()
    }

    /// The pool of a node's agent, once it serves.
    pub(crate) fn pool(&self, node: &str) -> Value {
        until("the agent answers", || {
            self.node(node)["pool"]["error"].is_null()
        });
        self.node(node)["pool"].clone()
    }

    /// Every address of the node's secondary ENIs is in the agent's pool and the other way round, and
    /// no ENI is attached to nothing.
    pub(crate) fn pool_is_what_the_cloud_has(&self, node: &str) {
        let mut last = (Vec::new(), Vec::new());
        until("the agent's pool is what the cloud has", || {
            let entry = self.node(node);
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let mut cloud = Vec::new();
            for eni in list(&entry["enis"]) {
                if eni["kind"] == "Secondary" {
                    cloud.push(eni["primary"].as_str().unwrap().to_owned());
                    let more = list(&eni["secondary"]);
                    cloud.extend(more.iter().map(|ip| ip.as_str().unwrap().to_owned()));
                    let prefixes = list(&eni["prefixes"]).into_iter();
                    let prefixes = prefixes.map(|it| serde_json::from_value(it).unwrap());
                    cloud.extend(prefixes.flat_map(addresses));
                }
            }
            let mut pool: Vec<String> = list(&entry["pool"]["enis"])
                .iter()
                .filter_map(|eni| eni["addresses"].as_object())
                .flat_map(|addresses| addresses.keys().cloned())
                .collect();
            cloud.sort();
            pool.sort();
            let same = cloud == pool && self.status()["detached"] == json!([]);
            last = (cloud, pool);
            same
        });
        assert_eq!(last.0, last.1);
    }

    pub(crate) fn address_when_ready(&self, pod: &str) -> String {
        let mut address = None;
        until("the pod is ready", || {
            let status = self.status();
            let mut pods = status["pods"].as_array().unwrap().iter();
            let ready = pods.find(|entry| entry["name"] == pod && entry["ready"] == true);
            address = ready.and_then(|entry| Some(entry["address"].as_str()?.to_owned()));
            address.is_some()
        });
        address.unwrap()
    }

    pub(crate) fn create_pod(&self, name: &str, node: &str) {
        let pod = json!({
            "metadata": { "name": name },
            "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "probe" }] },
        });
        let pod = serde_json::from_value(pod).unwrap();
        self.runtime.block_on(async {
            self.pods()
                .await
                .create(&PostParams::default(), &pod)
                .await
                .unwrap();
        });
    }

    pub(crate) fn delete_pod(&self, name: &str) {
        self.runtime.block_on(async {
            self.pods()
                .await
                .delete(name, &DeleteParams::default())
                .await
                .unwrap();
        });
    }

    async fn pods(&self) -> Api<Pod> {
        let path = self.run_ok(&["kubeconfig"]);
        let kubeconfig = Kubeconfig::read_from(path.trim()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        Api::default_namespaced(Client::try_from(config.unwrap()).unwrap())
    }

    /// Links, rules, routes and namespaces of pods on a node.
    pub(crate) fn leftovers(&self, node: &str) -> Vec<String> {
        let pid = self.node(node)["pid"].to_string();
        let mut left: Vec<String> = fs::read_dir(format!("/proc/{pid}/root/run/netns"))
            .unwrap()
            .map(|entry| format!("netns {:?}", entry.unwrap().path()))
            .collect();
        for (what, line) in [
            ("link", "ip -o link show"),
            ("rule", "ip -o rule show"),
            ("route", "ip -o route show table all"),
        ] {
            let inside = format!("--net=/proc/{pid}/ns/net");
            let output = Command::new("nsenter")
                .arg(inside)
                .args(line.split(' '))
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let ours = |line: &&str| match what {
                "rule" => line.starts_with("512:") || line.starts_with("2048:"),
                _ => line.contains("cali"),
            };
            left.extend(
                text.lines()
                    .filter(ours)
                    .map(|line| format!("{what} {line}")),
            );
        }
        left
    }

    /// Verbs of the plugin calls on a node, in order; all of them succeeded.
    pub(crate) fn cni_calls(&self, node: &str) -> Vec<String> {
        let verb = |call: &Value| call["verb"].as_str().unwrap().to_owned();
        self.calls(node).iter().map(verb).collect()
    }

    /// How long the ADD of each pod took on a node, in milliseconds.
    pub(crate) fn adds(&self, node: &str) -> BTreeMap<String, f64> {
        let calls = self.calls(node);
        let adds = calls.iter().filter(|call| call["verb"] == "ADD");
        let took = |call: &Value| {
            Some((
                call["pod"].as_str()?.to_owned(),
                call["ms"].as_f64().unwrap(),
            ))
        };
        adds.filter_map(took).collect()
    }

    fn calls(&self, node: &str) -> Vec<Value> {
        let record = self.dir.join("logs").join(format!("{node}-cni.jsonl"));
        let record = fs::read_to_string(record).unwrap();
        let call = |line: &str| {
            let call: Value = serde_json::from_str(line).unwrap();
            assert_eq!(call["ok"], true, "{call}");
            call
        };
        record.lines().map(call).collect()
    }

    /// As `kill -9` by hand.
    pub(crate) fn kill_region(&self) {
        let record = fs::read(self.dir.join("lab.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let pid = record["processes"][0]["pid"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Takes the lab down and looks for processes, namespaces, mounts, cgroups and files of it.
    pub(crate) fn down_leaves_nothing(&self) {
        let footprint = Footprint::of(&self.dir, &self.status());
        self.run_ok(&["down"]);
        footprint.is_gone(&self.dir);
    }
}

impl Lab {
    pub(crate) fn command_on(&self, node: &str) -> Command {
        let pid = self.node(node)["pid"].to_string();
        let mut nsenter = Command::new("nsenter");
        for (flag, file) in [
            ("net", "net"),
            ("mount", "mnt"),
            ("pid", "pid_for_children"),
        ] {
            nsenter.arg(format!("--{flag}=/proc/{pid}/ns/{file}"));
        }
        nsenter.arg("--");
        nsenter
    }

    /// Runs a command on a node and returns what it prints.
    pub(crate) fn on_node(&self, node: &str, command: &[&str]) -> String {
        self.try_on_node(node, command)
            .unwrap_or_else(|output| panic!("{command:?}: {output:?}"))
    }

    /// The same for a command that may fail.
    pub(crate) fn try_on_node(&self, node: &str, command: &[&str]) -> Result<String, Output> {
        let output = self.command_on(node).args(command).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(output),
        }
    }

    /// What runs on a node, as a runtime lists it for GC, but for the sandbox `except`. The kubelet
    /// model names a sandbox's file by the first half of its id, and the agent's log has the whole.
    pub(crate) fn attachments(&self, node: &str, except: &str) -> Value {
        let log = self.run_ok(&["logs", &format!("{node}-terwayd")]);
        let keys = log.lines().filter(|line| line.contains(": attached "));
        let keys = keys.filter_map(|line| line.split("key=").nth(1)?.split_whitespace().next());
        let list = keys.filter_map(|key| {
            let (container, interface) = key.split_once('/')?;
            (container != except).then(|| json!({ "containerID": container, "ifname": interface }))
        });
        list.collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in [
                "region",
                "node-1",
                "node-1-terwayd",
                "node-2",
                "node-2-terwayd",
                "node-1-terway-controlplane",
                "node-2-terway-controlplane",
            ] {
                let output = self.run(&["logs", log]);
                eprintln!("== {log}\n{}", String::from_utf8_lossy(&output.stdout));
            }
        }
        self.run(&["down"]);
    }
}

/// Where the programs under test are, built from this workspace: cargo builds no other package's
/// programs for a test, and ones left from an earlier build would prove nothing.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_terway-lab"))
            .parent()
            .unwrap();
        let profile = match directory.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--profile", profile, "--target-dir"])
            .arg(directory.parent().unwrap())
            .args(["--workspace", "--bins"])
            .status()
            .unwrap();
        assert!(
            status.success(),
            "the programs under test could not be built"
        );
        directory.to_owned()
    })
}
