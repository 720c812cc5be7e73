//! What people type, against what they expect to read: the distribution's `kubectl` (package
//! `kubernetes-client`) over loopback. `KUBECTL` names another one.

mod lab;

use lab::Lab;
use serde_json::{Value, json};

/// Longest a command may wait for a state; each normally takes well under a second.
const PATIENCE: &str = "--timeout=30s";

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "web:1" }] },
    })
}

/// The words of each line, so that column widths do not matter.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn get_prints_the_columns_people_know() {
    let lab = Lab::start();
    assert_eq!(
        lab.ok_with(&["create", "-f", "-"], &pod("web")),
        "pod/web created\n",
    );
    lab.ok(&["wait", "--for=condition=PodScheduled", "pod/web", PATIENCE]);
    let starting = lab.ok(&["get", "pods"]);
    assert_eq!(
        words(&starting)[0],
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert_eq!(words(&starting)[1][..4], ["web", "0/1", "Pending", "0"]);
    lab.report_running("web");
    let wide = lab.ok(&["get", "pods", "-A", "-o", "wide"]);
    let heads = "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES";
    assert_eq!(words(&wide)[0], heads.split(' ').collect::<Vec<_>>());
    let row = &words(&wide)[1];
    assert_eq!(row[..5], ["default", "web", "1/1", "Running", "0"]);
    assert_eq!(row[6..], ["10.0.0.7", "node-a", "<none>", "<none>"]);
    let nodes = lab.ok(&["get", "no", "-o", "wide"]);
    let row = &words(&nodes)[1];
    assert_eq!(row[..3], ["node-a", "Ready", "<none>"]);
    assert_eq!(row[4..6], ["v1.33.0", "192.168.0.1"]);
    assert!(lab.ok(&["get", "ns"]).contains("kube-node-lease   Active"));
    assert!(
        lab.ok(&["get", "events"])
            .contains("Successfully assigned default/web to node-a")
    );
    let everything = lab.ok(&[
        "get",
        "all,cm,secrets,sa,ds,crd,clusterroles,pc,leases,events.events.k8s.io",
        "-A",
    ]);
    assert!(everything.contains("pod/web"), "{everything}");
    assert_eq!(
        lab.ok(&["get", "pod", "web", "-o", "jsonpath={.status.qosClass}"]),
        "BestEffort"
    );
    assert!(lab.ok(&["version"]).contains("v1.33.0+kubesim"));
    assert!(lab.ok(&["api-resources"]).contains("coordination.k8s.io"));
    assert_eq!(
        lab.ok(&["get", "pods", "--chunk-size=1", "-o", "name"]),
        "pod/web\n"
    );
}

#[test]
fn describe_tells_the_whole_story() {
    let lab = Lab::start();
    lab.ok_with(&["create", "-f", "-"], &pod("web"));
    lab.ok(&["wait", "--for=condition=PodScheduled", "pod/web", PATIENCE]);
    lab.report_running("web");
    let story = lab.ok(&["describe", "pod", "web"]);
    for part in [
        "Node:",
        "node-a",
        "Status:",
        "Running",
        "10.0.0.7",
        "Successfully assigned",
    ] {
        assert!(story.contains(part), "no {part} in {story}");
    }
    let story = lab.ok(&["describe", "node", "node-a"]);
    assert!(
        story.contains("web") && story.contains("Non-terminated Pods"),
        "{story}"
    );
    assert!(lab.ok(&["describe", "ns", "default"]).contains("Active"));
}

#[test]
fn apply_sends_only_what_changed() {
    let lab = Lab::start();
    let mut manifest = pod("web");
    let apply = ["apply", "-f", "-"];
    assert_eq!(lab.ok_with(&apply, &manifest), "pod/web created\n");
    assert_eq!(lab.ok_with(&apply, &manifest), "pod/web unchanged\n");
    manifest["metadata"]["labels"] = json!({ "app": "web" });
    manifest["spec"]["containers"][0]["image"] = "web:2".into();
    assert_eq!(lab.ok_with(&apply, &manifest), "pod/web configured\n");
    let image = "jsonpath={.spec.containers[*].image} {.metadata.labels.app}";
    assert_eq!(lab.ok(&["get", "pod", "web", "-o", image]), "web:2 web");
    manifest["spec"]["hostNetwork"] = true.into();
    assert!(
        lab.refused(&apply, &manifest)
            .contains("pod updates may not change fields")
    );
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "conf" },
        "data": { "a": "1", "b": "2" },
    });
    let server_side = ["apply", "--server-side", "-f", "-"];
    lab.ok_with(&server_side, &map);
    let mut less = map.clone();
    less["data"] = json!({ "a": "3" });
    lab.ok_with(&server_side, &less);
    assert_eq!(
        lab.ok(&["get", "cm", "conf", "-o", "jsonpath={.data}"]),
        r#"{"a":"3"}"#
    );
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    assert!(lab.refused(&other, &map).contains("conflict"));
}

#[test]
fn typed_verbs_create_what_they_name() {
    let lab = Lab::start();
    assert_eq!(
        lab.ok(&["create", "ns", "team"]),
        "namespace/team created\n"
    );
    lab.ok(&[
        "-n",
        "team",
        "create",
        "configmap",
        "m",
        "--from-literal=a=1",
        "--from-literal=b=",
    ]);
    lab.ok(&["-n", "team", "create", "serviceaccount", "agent"]);
    let data = ["-n", "team", "get", "cm", "m", "-o", "jsonpath={.data}"];
    assert_eq!(lab.ok(&data), r#"{"a":"1","b":""}"#);
    let said = lab.refused(
        &["create", "secret", "generic", "s", "--from-literal=a=1"],
        &Value::Null,
    );
    assert!(said.contains("accepted media types"), "{said}");
}

#[test]
fn objects_are_changed_by_name() {
    let lab = Lab::start();
    lab.ok_with(&["create", "-f", "-"], &pod("web"));
    lab.ok(&["label", "pod", "web", "app=web"]);
    lab.ok(&["annotate", "pod", "web", "note=read me"]);
    assert_eq!(
        lab.ok(&["get", "pods", "-l", "app in (web),!old", "-o", "name"]),
        "pod/web\n"
    );
    lab.ok(&["label", "pod", "web", "app-"]);
    assert_eq!(lab.ok(&["get", "pods", "-l", "app", "-o", "name"]), "");
    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"a":"1"}}}"#),
        (
            "strategic",
            r#"{"metadata":{"labels":{"b":"2"},"finalizers":["x.io/y"]}}"#,
        ),
        (
            "json",
            r#"[{"op":"test","path":"/metadata/labels/a","value":"1"},
                     {"op":"remove","path":"/metadata/labels/a"}]"#,
        ),
    ] {
        lab.ok(&["patch", "pod", "web", "--type", kind, "-p", patch]);
    }
    let shown = lab.ok(&[
        "get",
        "pod",
        "web",
        "-o",
        "jsonpath={.metadata.labels}{.metadata.finalizers}",
    ]);
    assert_eq!(shown, r#"{"b":"2"}["x.io/y"]"#);
    let failing = r#"[{"op":"test","path":"/metadata/labels/b","value":"no"}]"#;
    let said = lab.refused(
        &["patch", "pod", "web", "--type=json", "-p", failing],
        &Value::Null,
    );
    assert!(said.contains("The request is invalid"), "{said}");
    lab.ok(&["cordon", "node-a"]);
    assert!(
        lab.ok(&["get", "nodes"])
            .contains("Ready,SchedulingDisabled")
    );
}

#[test]
fn waiting_and_deleting_follow_the_pods_life() {
    let lab = Lab::start();
    lab.ok_with(&["create", "-f", "-"], &pod("web"));
    lab.ok(&["wait", "--for=condition=PodScheduled", "pod/web", PATIENCE]);
    let ready = lab
        .command(&["wait", "--for=condition=Ready", "pod/web", PATIENCE])
        .spawn();
    lab.report_running("web");
    let ready = ready
        .expect("kubectl starts")
        .wait_with_output()
        .expect("kubectl ends");
    assert!(
        ready.status.success(),
        "{}",
        String::from_utf8_lossy(&ready.stderr)
    );
    lab.ok(&["delete", "pod", "web", "--wait=false"]);
    assert!(lab.ok(&["get", "pods"]).contains("Terminating"));
    let mut wait = lab.command(&["wait", "--for=delete", "pod/web", PATIENCE]);
    let gone = wait.spawn().expect("kubectl starts");
    lab.ok(&["delete", "pod", "web", "--force", "--grace-period=0"]);
    let gone = gone.wait_with_output().expect("kubectl ends");
    // An old kubectl that only looks after the pod has gone calls that an error.
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(
        gone.status.success() || said.contains("not found"),
        "{said}"
    );
    assert!(
        lab.refused(&["get", "pod", "web"], &Value::Null)
            .contains("(NotFound)")
    );
    let team = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team" } });
    lab.ok_with(&["create", "-f", "-"], &team);
    lab.ok_with(
        &["-n", "team", "create", "-f", "-"],
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "conf" },
        }),
    );
    assert_eq!(
        lab.ok(&["delete", "ns", "team"]),
        "namespace \"team\" deleted\n"
    );
    assert!(
        lab.refused(&["get", "ns", "team"], &Value::Null)
            .contains("(NotFound)")
    );
    lab.ok_with(&["create", "-f", "-"], &pod("one"));
    lab.ok_with(&["create", "-f", "-"], &pod("two"));
    lab.ok(&["delete", "pods", "--all", "--force", "--grace-period=0"]);
    assert_eq!(lab.ok(&["get", "pods", "-o", "name"]), "");
}

#[test]
fn a_watch_of_tables_prints_each_change() {
    use std::io::{BufRead as _, BufReader};
    let lab = Lab::start();
    lab.ok_with(&["create", "-f", "-"], &pod("web"));
    let mut watch = lab
        .command(&["get", "pods", "-w"])
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("stdout")).lines();
    let mut next = |what: &str| loop {
        let line = lines.next().expect("a line").expect("text");
        if line.contains(what) {
            return line;
        }
    };
    assert!(next("NAME").contains("RESTARTS"));
    next("Pending");
    lab.report_running("web");
    assert!(next("1/1").contains("Running"));
    watch.kill().expect("kubectl stops");
    watch.wait().expect("kubectl ends");
}

#[test]
fn refusals_read_as_the_real_ones() {
    let lab = Lab::start();
    let create = ["create", "-f", "-"];
    lab.ok_with(&create, &pod("web"));
    assert!(
        lab.refused(&create, &pod("web"))
            .contains("(AlreadyExists)")
    );
    let said = lab.refused(&create, &pod("Bad_Name"));
    assert!(
        said.contains("a lowercase RFC 1123 subdomain must consist of"),
        "{said}"
    );
    let mut empty = pod("empty");
    empty["spec"]["containers"] = json!([]);
    assert!(
        lab.refused(&create, &empty)
            .contains("spec.containers: Required value")
    );
    let elsewhere = ["-n", "nowhere", "create", "-f", "-"];
    assert!(
        lab.refused(&elsewhere, &pod("web"))
            .contains("namespaces \"nowhere\" not found")
    );
    let said = lab.refused(&["delete", "ns", "default"], &Value::Null);
    assert!(said.contains("this namespace may not be deleted"), "{said}");
    let said = lab.refused(&["get", "pods", "--field-selector=spec.x=y"], &Value::Null);
    assert!(said.contains("field label not supported: spec.x"), "{said}");
    assert!(
        lab.refused(&["get", "statefulsets"], &Value::Null)
            .contains("resource type")
    );
}
