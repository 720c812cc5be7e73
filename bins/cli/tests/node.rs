//! On a node: the program against an agent that speaks the real protocol, and without any cluster.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use wire::{
    message::{Reply, Request, Verb},
    socket::Listener,
};

struct Node {
    directory: tempfile::TempDir,
}

impl Node {
    /// A node whose agent answers `view`, and `explain` if it knows the question.
    fn new(view: Value, explain: Option<Value>) -> Self {
        let node = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let listener = Listener::bind(&node.socket()).unwrap();
        thread::spawn(move || {
            loop {
                let Ok(connection) = listener.accept(Duration::from_secs(5)) else {
                    return;
                };
                let Ok((request, descriptors)) = connection.receive::<Request>() else {
                    continue;
                };
                let reply = match (request.verb, &explain) {
                    (Verb::View, _) => Reply::View(view.clone()),
                    (Verb::Dump, _) => {
                        let file = descriptors.into_iter().next().unwrap();
                        let long = "LTAI5tRealKeyIdentifier terway ".repeat(100_000);
                        File::from(file).write_all(long.as_bytes()).unwrap();
                        Reply::Done
                    }
                    (Verb::Explain { pod }, Some(explain)) => {
                        let mut document = explain.clone();
                        document["pod"] = pod.to_string().into();
                        Reply::View(document)
                    }
                    _ => Reply::Failed {
                        code: 6,
                        message: "a message cannot be read".into(),
                        details: String::new(),
                    },
                };
                // Nobody there to take it is the test's own business.
                let _ = connection.send(&reply, &[]);
            }
        });
        node
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("terway.sock")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(&self.socket(), self.directory.path(), arguments)
    }
}

fn run(socket: &Path, home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_terway-cli"))
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .env("HOME", home)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env_remove("NODE_NAME")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn view() -> Value {
    json!({ "idle": 2, "assigned": 1, "resting": 0, "waiting": 0, "open_calls": 0,
        "enis": [{ "id": "eni-1", "mac": "00:16:3e:00:00:01", "vswitch": "vsw-1", "stage": "Ready",
            "usable": true, "link": "eth1", "addresses": { "10.1.0.7": "default/web" } }],
        "agent": { "version": "0.1.0", "node": "node-1", "ready": true } })
}

#[test]
fn status_needs_nothing_but_the_agent_and_has_no_colours_in_a_pipe() {
    let node = Node::new(view(), None);
    let output = node.run(&["status"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", stderr(&output));
    assert!(shown.starts_with("node-1 · agent 0.1.0 ready\n"), "{shown}");
    assert!(
        shown.contains("    10.1.0.7  default/web\n") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let raw: Value = serde_json::from_slice(&node.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(raw, view());
}

#[test]
fn a_recording_longer_than_a_message_comes_whole_and_without_keys() {
    let output = Node::new(view(), None).run(&["dump"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(shown.matches("[redacted] terway").count(), 100_000);
    assert!(!shown.contains("LTAI"));
}

#[test]
fn status_that_is_wrong_says_so_with_code_1() {
    let mut document = view();
    document["waiting"] = 1.into();
    document["waiting_for"] = "an \u{1b}[31mENI".into();
    let output = Node::new(document, None).run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("! 1 pod waiting: an  [31mENI")
            || stdout(&output).contains("! 1 pod waiting: an [31mENI")
    );
}

#[test]
fn explain_answers_from_the_agent_alone() {
    let cases = [
        (
            json!({ "state": "attached", "addresses": ["10.1.0.7"], "eni": "eni-1" }),
            0,
            "has 10.1.0.7 on eni-1",
        ),
        (
            json!({ "state": "waiting", "missing": "no address is free", "next": "an ENI comes" }),
            1,
            "waits for an address",
        ),
        (
            json!({ "state": "failed", "missing": "the kernel refused" }),
            1,
            "failed",
        ),
        (json!({ "state": "unknown" }), 2, "could not be found out"),
    ];
    for (explanation, code, words) in cases {
        let output = Node::new(view(), Some(explanation)).run(&["explain", "default/web"]);
        let shown = stdout(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{shown}{}",
            stderr(&output)
        );
        assert!(
            shown.contains(words) && shown.contains("What could not be asked"),
            "{shown}"
        );
    }
}

#[test]
fn an_agent_that_does_not_know_the_question_is_asked_for_its_view() {
    let node = Node::new(view(), None);
    let output = node.run(&["explain", "default/web", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["has_address"], true, "{document}");
    assert_eq!(output.status.code(), Some(0));
    let output = node.run(&["explain", "default/other"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
}

#[test]
fn without_agent_and_cluster_the_reason_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let output = run(&socket, directory.path(), &["status"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.contains("none.sock") && told.contains("kubeconfig"),
        "{told}"
    );
    assert_eq!(told.trim().lines().count(), 1, "{told}");

    drop(Listener::bind(&socket).unwrap());
    let told = stderr(&run(&socket, directory.path(), &["status"]));
    assert!(
        told.contains("no agent listens") && told.contains("log"),
        "{told}"
    );

    let output = run(&socket, directory.path(), &["explain", "web"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("NAMESPACE/POD"));
}

#[test]
fn what_is_no_view_is_refused() {
    for view in [json!("x"), json!({ "idle": "many" })] {
        let output = Node::new(view, None).run(&["status"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("the agent"), "{}", stderr(&output));
    }
}

#[test]
fn version_names_both() {
    let shown = stdout(&Node::new(view(), None).run(&["version"]));
    assert!(
        shown.starts_with("terway-cli 0.") && shown.contains("terwayd    0.1.0"),
        "{shown}"
    );
}

#[test]
fn sysdump_of_a_node_holds_its_status() {
    let node = Node::new(view(), None);
    let file = node.directory.path().join("x.tar");
    let output = node.run(&["sysdump", "-o", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    assert!(text.contains("this-node/status.json") && text.contains("left-out.txt"));
    assert!(stderr(&output).contains("left out: the cluster"));
}
