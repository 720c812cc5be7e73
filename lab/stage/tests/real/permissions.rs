//! Every verb that `deploy/base/rbac.yaml` grants is needed: without it the agent names it. The rules are
//! read from the cluster they were applied to, so a new verb is asked about by itself.

use serde_json::{Value, json};

use crate::{
    checks::name,
    rig::{Lab, NODES, level, list, until},
};

/// The roles, and where kubectl finds them.
const ROLES: [&[&str]; 2] = [
    &["clusterrole/terway"],
    &["role/terway", "--namespace=kube-system"],
];

/// Lines of the agent's log: what it found out about its permissions.
const GRANTED: &str = "every permission is granted";
const LACKS: &str = "service account may not";

/// Takes away one verb at a time.
pub(crate) fn each_verb_is_needed(lab: &Lab) {
    assert_eq!(
        complaints(lab, &agent_anew(lab)),
        [""; 0],
        "with exactly those that are documented"
    );
    for role in ROLES {
        let rules = lab.get(role)[0]["rules"].clone();
        for (at, rule) in list(&rules).enumerate() {
            let resource = rule["resources"][0].as_str().unwrap();
            for verb in list(&rule["verbs"]).map(|verb| verb.as_str().unwrap()) {
                let rest: Vec<&Value> = list(&rule["verbs"]).filter(|it| *it != verb).collect();
                let mut fewer = rules.clone();
                fewer[at]["verbs"] = json!(rest);
                if rest.is_empty() {
                    // A rule without verbs is refused.
                    fewer.as_array_mut().unwrap().remove(at);
                }
                put(lab, role, &fewer);
                let wanted = format!("may not {verb} {resource}");
                let agent = agent_anew(lab);
                until(&format!("the agent says: {wanted}"), || {
                    let said = complaints(lab, &agent);
                    level(
                        said.len() == 1 && said[0].contains(&wanted),
                        format!("{said:?}"),
                    )
                });
                if (resource, verb) != ("events", "create") {
                    until(&format!("an event says: {wanted}"), || {
                        let events = lab.get(&["events", "--all-namespaces"]);
                        let mut notes = events.iter().filter_map(|event| event["message"].as_str());
                        level(notes.any(|note| note.contains(&wanted)), events.len())
                    });
                }
                println!("  {wanted}");
                put(lab, role, &rules);
            }
        }
    }
    let agent = agent_anew(lab);
    assert_eq!(complaints(lab, &agent), [""; 0], "with all of them again");
}

fn put(lab: &Lab, role: &[&str], rules: &Value) {
    let patch = json!([{ "op": "replace", "path": "/rules", "value": rules }]).to_string();
    lab.kubectl(&[&["patch"], role, &["--type=json", "-p", &patch]].concat());
}

/// Puts a new agent on the first node and waits until it serves.
fn agent_anew(lab: &Lab) -> String {
    let of_node = format!("--field-selector=spec.nodeName={}", NODES[0]);
    let question = [
        "pods",
        "--namespace=kube-system",
        "--selector=app=terway",
        &of_node,
    ];
    let before = name(&lab.get(&question)[0]).to_owned();
    lab.kubectl(&[
        "delete",
        "pod",
        &before,
        "--namespace=kube-system",
        "--wait=false",
    ]);
    until("the new agent serves", || {
        let pods = lab.get(&question);
        let agent = pods.iter().map(name).find(|name| *name != before);
        let agent = agent.ok_or("there is no other pod")?.to_owned();
        let log = log(lab, &agent)?;
        let asked = [GRANTED, LACKS].iter().any(|line| log.contains(line));
        level(asked && log.contains("serving at"), log)?;
        Ok(agent)
    })
}

fn log(lab: &Lab, agent: &str) -> Result<String, String> {
    lab.kubectl_with(
        &[
            "logs",
            agent,
            "--container=terway",
            "--namespace=kube-system",
        ],
        "",
    )
}

/// What the agent says it may not do.
fn complaints(lab: &Lab, agent: &str) -> Vec<String> {
    let log = log(lab, agent).unwrap_or_default();
    let lines = log.lines().filter(|line| line.contains(LACKS));
    lines.map(str::to_owned).collect()
}
