//! The scheduler's choices and bindings.

use crate::*;

#[test]
fn waiting_pods_go_to_the_emptiest_node_that_takes_them() {
    let mut cluster = cluster();
    let node = |name: &str, ready: &str, disk: &str| {
        json!({
            "metadata": { "name": name, "labels": { "disk": disk } },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        })
    };
    for body in [
        node("a", "True", "ssd"),
        node("b", "True", "hdd"),
        node("c", "False", "ssd"),
    ] {
        create(&mut cluster, &NODES, body);
    }
    let mut picky = pod("picky");
    picky["spec"]["nodeSelector"] = json!({ "disk": "hdd" });
    let mut homeless = pod("homeless");
    homeless["spec"]["nodeSelector"] = json!({ "disk": "tape" });
    for body in [homeless, pod("one"), pod("two"), picky] {
        create(&mut cluster, &PODS, body);
    }
    let plan = schedule(&cluster);
    let choices: Vec<_> = plan
        .iter()
        .map(|a| (a.pod.as_str(), a.node.as_str()))
        .collect();
    assert_eq!(choices, [("one", "a"), ("picky", "b"), ("two", "a")]);
    let bind = |cluster: &mut Cluster, pod: &str, node: &str| {
        cluster.bind(NOW, "default", pod, &json!({ "target": { "name": node } }))
    };
    for (pod, node) in choices {
        bind(&mut cluster, pod, node).expect("bound");
    }
    assert_eq!(schedule(&cluster), []);
    let twice = bind(&mut cluster, "one", "b").expect_err("bound already");
    let says = "Operation cannot be fulfilled on pods/binding \"one\": pod one is already assigned \
                to node \"a\"";
    assert_eq!(twice.to_string(), says);
    assert_eq!(
        bind(&mut cluster, "homeless", "").map_err(|e| e.code()),
        Err(422)
    );
}

#[test]
fn zones_and_extended_resources_are_respected() {
    let mut cluster = cluster();
    for (name, zone, members) in [("a", "h", "9"), ("b", "i", "2"), ("c", "i", "1")] {
        let body = json!({
            "metadata": { "name": name, "labels": { "zone": zone } },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "capacity": { "example.com/member": members }, "allocatable": { "cpu": "4" },
            },
        });
        create(&mut cluster, &NODES, body);
    }
    for number in 0..4 {
        let mut pod = pod(&format!("p{number}"));
        let one = json!({ "limits": { "example.com/member": "1" } });
        pod["spec"]["containers"][0]["resources"] = one;
        let zone = json!({ "key": "zone", "operator": "In", "values": ["i", "j"] });
        let required = json!({ "nodeSelectorTerms": [{ "matchExpressions": [zone] }] });
        pod["spec"]["affinity"]["nodeAffinity"] =
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": required });
        create(&mut cluster, &PODS, pod);
    }
    let plan = schedule(&cluster);
    let nodes: Vec<_> = plan.iter().map(|a| a.node.as_str()).collect();
    assert_eq!(nodes, ["b", "c", "b"], "the fourth finds no room");
}
