//! A cluster on loopback and the `kubectl` that speaks to it.

use std::{
    future::IntoFuture,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use terway_kubesim::{
    Cluster, Part, Patch, Target,
    http::{Api, router, run_scheduler},
    registry::PODS,
};

pub(crate) struct Lab {
    pub(crate) api: Api,
    directory: tempfile::TempDir,
    /// Holds the server and the scheduler, which end with it.
    _tasks: tokio::runtime::Runtime,
}

impl Lab {
    /// A cluster with two ready nodes, its scheduler, and nobody running pods.
    pub(crate) fn start() -> Self {
        let tasks = tokio::runtime::Runtime::new().expect("runtime");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let api = Api::new(Cluster::new(1, now.expect("clock")));
        let listener = tasks
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port on loopback");
        let address = listener.local_addr().expect("address");
        tasks.spawn(axum::serve(listener, router(api.clone())).into_future());
        tasks.spawn(run_scheduler(api.clone()));
        let directory = tempfile::tempdir().expect("directory");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": { "server": format!("http://{address}") } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "" } }],
        });
        std::fs::write(directory.path().join("config"), config.to_string()).expect("kubeconfig");
        let lab = Self {
            api,
            directory,
            _tasks: tasks,
        };
        for (name, last) in [("node-a", 1), ("node-b", 2)] {
            let address = json!({ "type": "InternalIP", "address": format!("192.168.0.{last}") });
            lab.create(json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
                "status": {
                    "conditions": [{ "type": "Ready", "status": "True" }],
                    "addresses": [address],
                    "nodeInfo": { "kubeletVersion": "v1.33.0", "osImage": "Debian" },
                },
            }));
        }
        lab
    }

    pub(crate) fn create(&self, object: Value) {
        self.api.create_object(object).expect("created");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let program = std::env::var("KUBECTL").unwrap_or_else(|_| "/usr/bin/kubectl".to_owned());
        assert!(
            std::path::Path::new(&program).exists(),
            "{program} is missing: install the package kubernetes-client or set KUBECTL"
        );
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.directory.path().join("config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &Value) -> Output {
        let mut child = self.command(arguments).spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin
            .write_all(input.to_string().as_bytes())
            .expect("input");
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, &Value::Null)
    }

    pub(crate) fn ok_with(&self, arguments: &[&str], input: &Value) -> String {
        let output = self.run(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub(crate) fn refused(&self, arguments: &[&str], input: &Value) -> String {
        let output = self.run(arguments, input);
        assert!(
            !output.status.success(),
            "kubectl {arguments:?} went through"
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What a kubelet reports once the pod runs.
    pub(crate) fn report_running(&self, name: &str) {
        let time = "2026-01-01T00:00:00Z";
        let status = json!({ "status": {
            "phase": "Running", "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }],
            "conditions": [
                { "type": "Initialized", "status": "True" }, { "type": "Ready", "status": "True" },
            ],
            "containerStatuses": [{
                "name": "main", "ready": true, "restartCount": 0, "image": "web:1",
                "state": { "running": { "startedAt": time } },
            }],
        }});
        self.patch_status(name, status);
    }

    pub(crate) fn patch_status(&self, name: &str, status: Value) {
        let target = Target {
            resource: &PODS,
            namespace: "default",
            name,
        };
        let patch = Patch::Strategic(status);
        self.api
            .write(|cluster, now| cluster.patch(now, target, Part::Status, &patch))
            .expect("status patched");
    }
}
