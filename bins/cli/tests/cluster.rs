//! Off the nodes: the program against an API server that holds a few objects and lets a command be run in
//! a pod, as the real one does: one WebSocket, a channel number before each frame.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::Arc,
    thread,
};

use base64::Engine as _;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

const SECRET: &str = "plainlookingsecret0123456789xy";

#[derive(Default)]
struct Objects {
    /// Path without its query, and the answer.
    answers: BTreeMap<String, Value>,
    /// Path of a log, and its text.
    logs: BTreeMap<String, String>,
    /// Pod and first argument of the command, and what it prints.
    commands: BTreeMap<(String, String), String>,
}

struct Cluster {
    directory: tempfile::TempDir,
}

impl Cluster {
    fn new(objects: Objects) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Arc::new(objects);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = Arc::clone(&objects);
                // A client that goes away ends its own connection only.
                thread::spawn(move || serve(stream, &objects));
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let config = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
        std::fs::write(directory.path().join("kubeconfig"), config.to_string()).unwrap();
        Self { directory }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_terway-cli"))
            .arg("--socket")
            .arg(self.directory.path().join("none.sock"))
            .arg("--kubeconfig")
            .arg(self.directory.path().join("kubeconfig"))
            .args(arguments)
            .env_remove("POD_NAMESPACE")
            .output()
            .unwrap()
    }
}

fn serve(stream: TcpStream, objects: &Objects) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let target = first.split(' ').nth(1)?.to_owned();
        let mut key = String::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("sec-websocket-key")
            {
                value.trim().clone_into(&mut key);
            }
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if path.ends_with("/exec") {
            return command(&mut stream, &mut reader, objects, (path, query), &key);
        }
        let (status, body) = answer(objects, path, query);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
    }
}

fn answer(objects: &Objects, path: &str, query: &str) -> (&'static str, String) {
    let full = format!("{path}?{query}");
    let log = objects.logs.iter().find(|(known, _)| {
        let (place, words) = known.split_once('?').unwrap_or((known, ""));
        path == place && words.split('&').all(|word| full.contains(word))
    });
    if let Some((_, text)) = log {
        return ("200 OK", text.clone());
    }
    match objects.answers.get(path) {
        Some(list) if list["items"].is_array() => ("200 OK", filtered(list, query).to_string()),
        Some(object) => ("200 OK", object.to_string()),
        None => {
            let status = json!({ "kind": "Status", "status": "Failure", "reason": "NotFound",
                "code": 404, "message": format!("{path} not found"), "metadata": {} });
            ("404 Not Found", status.to_string())
        }
    }
}

/// The two field selectors that are used.
fn filtered(list: &Value, query: &str) -> Value {
    let mut list = list.clone();
    let items = list["items"].as_array_mut().unwrap();
    if let Some((_, rest)) = query.split_once("spec.nodeName%3D") {
        let node = rest.split('&').next().unwrap();
        items.retain(|item| item["spec"]["nodeName"] == node);
    }
    if query.contains("status.phase%3DPending") {
        items.retain(|item| item["status"]["phase"] == "Pending");
    }
    list
}

/// What RFC 6455 and the channel protocol of `exec` ask for.
fn command(
    stream: &mut TcpStream,
    reader: &mut impl Read,
    objects: &Objects,
    (path, query): (&str, &str),
    key: &str,
) -> Option<()> {
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let pod = path.rsplit('/').nth(1)?.to_owned();
    let words: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("command="))
        .collect();
    let verb = (*words.get(1)?).to_owned();
    let printed = objects
        .commands
        .get(&(pod, verb))
        .cloned()
        .unwrap_or_default();
    for part in printed.as_bytes().chunks(1000) {
        frame(stream, 1, part)?;
    }
    if printed.is_empty() {
        frame(stream, 2, b"terway-cli: no agent listens")?;
    }
    frame(
        stream,
        3,
        br#"{"kind":"Status","status":"Success","metadata":{}}"#,
    )?;
    stream.write_all(&[0x88, 0]).ok()?;
    // Until the client closes too.
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).ok()?;
    None
}

fn frame(stream: &mut TcpStream, channel: u8, payload: &[u8]) -> Option<()> {
    let length = payload.len() + 1;
    let mut bytes = vec![0x82];
    match u8::try_from(length) {
        Ok(short) if short < 126 => bytes.push(short),
        _ => {
            bytes.push(126);
            bytes.extend_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        }
    }
    bytes.push(channel);
    bytes.extend_from_slice(payload);
    stream.write_all(&bytes).ok()
}

fn list(items: Vec<Value>) -> Value {
    json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items })
}

fn node(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "status": { "conditions": [
        { "type": "Ready", "status": "True" }] } })
}

fn agent_pod(name: &str, node: &str, running: bool) -> Value {
    let state = if running {
        json!({ "running": {} })
    } else {
        json!({ "waiting": { "reason": "CrashLoopBackOff" } })
    };
    json!({ "metadata": { "name": name }, "spec": { "nodeName": node, "containers": [] },
        "status": { "phase": "Running", "containerStatuses": [{ "name": "terway", "image": "",
            "imageID": "", "ready": running, "restartCount": 3, "state": state }] } })
}

fn status(idle: u32) -> String {
    // Longer than one frame of 125 bytes and more than one chunk.
    let addresses: BTreeMap<String, &str> =
        (0..100).map(|n| (format!("10.0.0.{n}"), "idle")).collect();
    json!({ "idle": idle, "agent": { "version": "0.1.0", "node": "node-1", "ready": true },
        "enis": [{ "id": "eni-1", "addresses": addresses }] })
    .to_string()
}

fn usual() -> Objects {
    let mut objects = Objects::default();
    let mut answer = |path: &str, value: Value| objects.answers.insert(path.into(), value);
    answer(
        "/api/v1/nodes",
        list(vec![
            node("node-1"),
            node("node-2"),
            node("node-3"),
            node("node-4"),
        ]),
    );
    answer("/api/v1/nodes/node-1", node("node-1"));
    answer(
        "/api/v1/namespaces/kube-system/pods",
        list(vec![
            agent_pod("terway-1", "node-1", true),
            agent_pod("terway-2", "node-2", false),
            agent_pod("terway-4", "node-4", true),
        ]),
    );
    let waiting = json!({ "metadata": { "name": "web", "namespace": "default", "uid": "u" },
        "spec": { "nodeName": "node-1", "containers": [] }, "status": { "phase": "Pending" } });
    answer("/api/v1/namespaces/default/pods/web", waiting.clone());
    answer("/api/v1/pods", list(vec![waiting]));
    let event = json!({ "metadata": { "name": "e", "namespace": "default" }, "reason": "AllocIPFailed",
        "message": "no address in time", "involvedObject": { "kind": "Pod", "name": "web", "uid": "u" },
        "reportingComponent": "terwayd", "lastTimestamp": "2026-11-22T10:00:00Z" });
    answer(
        "/api/v1/namespaces/default/events",
        list(vec![event.clone()]),
    );
    answer("/api/v1/events", list(vec![event]));
    answer(
        "/apis/apps/v1/namespaces/kube-system/daemonsets/terway",
        json!({ "metadata": { "name": "terway" }, "status": { "desiredNumberScheduled": 4,
            "numberReady": 2, "currentNumberScheduled": 4, "numberMisscheduled": 0 } }),
    );
    let conf = json!({ "access_key": "LTAI5tRealKeyIdentifier", "access_secret": SECRET });
    answer(
        "/api/v1/namespaces/kube-system/configmaps/eni-config",
        json!({ "metadata": { "name": "eni-config" }, "data": { "eni_conf": conf.to_string() } }),
    );
    let log = "/api/v1/namespaces/kube-system/pods/terway-1/log";
    objects.logs.insert(
        format!("{log}?container=terway&tailLines"),
        format!("INFO signing with {SECRET}\n"),
    );
    let mut command = |pod: &str, verb: &str, printed: String| {
        objects.commands.insert((pod.into(), verb.into()), printed);
    };
    command("terway-1", "status", status(7));
    command(
        "terway-1",
        "ask",
        json!({ "state": "waiting", "missing": "no address is free", "next": "an ENI comes",
            "tried": [{ "at": 1, "what": "asked for an ENI" }] })
        .to_string(),
    );
    objects
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn status_of_all_nodes_is_a_table() {
    let cluster = Cluster::new(usual());
    let output = cluster.run(&["status"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}{}", stderr(&output));
    let row = |node: &str| {
        shown
            .lines()
            .find(|line| line.starts_with(node))
            .unwrap()
            .to_owned()
    };
    assert!(
        row("node-1").contains("terway-1") && row("node-1").contains(" 7 "),
        "{shown}"
    );
    assert!(row("node-2").contains("CrashLoopBackOff"), "{shown}");
    assert!(
        row("node-3").ends_with("no agent's pod on this node"),
        "{shown}"
    );
    assert!(row("node-4").contains("no agent listens"), "{shown}");
    assert!(
        shown.ends_with("4 nodes, something is wrong on 3\n"),
        "{shown}"
    );
}

#[test]
fn status_of_one_node_is_its_tree() {
    let output = Cluster::new(usual()).run(&["status", "--node", "node-1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).starts_with("node-1 · agent 0.1.0 ready\n"),
        "{}",
        stdout(&output)
    );
    let output = Cluster::new(usual()).run(&["status", "--node", "node-9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("no agent's pod on node node-9"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn explain_asks_the_agent_of_the_pods_node() {
    let output = Cluster::new(usual()).run(&["explain", "default/web"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}{}", stderr(&output));
    for words in [
        "default/web waits for an address on its node",
        "agent: asked for an ENI",
        "event AllocIPFailed: no address in time",
        "no address is free",
        "an ENI comes",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("What could not be asked"), "{shown}");
}

#[test]
fn explain_of_a_pod_that_is_not_there_says_so() {
    let output = Cluster::new(usual()).run(&["explain", "default/nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).starts_with("default/nobody does not exist\n"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_cluster_that_does_not_answer_is_code_2() {
    let cluster = Cluster::new(Objects::default());
    let config = cluster.directory.path().join("kubeconfig");
    let text = std::fs::read_to_string(&config).unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = text
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    std::fs::write(&config, text.replace(&server, &port.to_string())).unwrap();
    let output = cluster.run(&["explain", "default/web"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(
        stdout(&output).contains("could not be found out"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_sysdump_holds_what_is_needed_and_no_secret() {
    let cluster = Cluster::new(usual());
    let file = cluster.directory.path().join("dump.tar");
    let output = cluster.run(&["sysdump", "-o", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bytes = std::fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for name in [
        "nodes.txt",
        "nodes/node-1/status.json",
        "nodes/node-1/agent.log",
        "daemonset.json",
        "eni-config.json",
        "events.json",
        "pods/default-web.txt",
        "left-out.txt",
    ] {
        assert!(
            text.contains(name),
            "{name} is not in the archive: {}",
            stderr(&output)
        );
    }
    assert!(
        !text.contains(SECRET) && !text.contains("LTAI5tRealKeyIdentifier"),
        "a secret survived"
    );
    assert!(text.contains("INFO signing with [redacted]"));
    assert!(text.contains("default/web waits for an address"));
}
