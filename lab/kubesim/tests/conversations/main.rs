//! Conversations with an API server: what is asked, and what every server must answer.
//!
//! The scripts are data (`scripts/*.json`). They always run against this API, and also against the
//! real server that `TERWAY_API_SERVER_KUBECONFIG` names; then the two must answer alike, but for the
//! differences a step lists with their reason. A step may give:
//!
//! - `do`: method and path; `{name}` is what an earlier step kept, `{ns}` a namespace of this run;
//! - `type`: of the body (`json` unless said), `body`: an object, or text as it is;
//! - `code`, `expect`: the status, and what the answer says at least (null: not there);
//! - `events`: of a watch, the same for each event; `meanwhile`: steps while the watch is open;
//! - `keep`: names for what stands at JSON pointers of the answer;
//! - `needs`: a resource that not every server has, found by discovery; without it the step is left
//!   out, and the run says so;
//! - `differs`: where a real server may answer otherwise, and why; under "" it may altogether, and the
//!   run says so.

mod compare;
mod http;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    compare::{differences, missing, normalised},
    server::Server,
};

/// Media types by the short names scripts use.
const TYPES: [(&str, &str); 5] = [
    ("json", "application/json"),
    ("json-patch", "application/json-patch+json"),
    ("merge", "application/merge-patch+json"),
    ("strategic", "application/strategic-merge-patch+json"),
    ("apply", "application/apply-patch+yaml"),
];
/// Every key a step may have: a misspelt one would check nothing.
const KEYS: [&str; 12] = [
    "say",
    "do",
    "type",
    "accept",
    "body",
    "code",
    "expect",
    "events",
    "meanwhile",
    "keep",
    "needs",
    "differs",
];

/// One server, and what this run has kept of its answers.
struct Speaker {
    server: Server,
    kept: BTreeMap<String, String>,
}

/// What a server answered to one step.
struct Reply {
    code: u16,
    body: Value,
}

struct Run {
    speakers: Vec<Speaker>,
    faults: Vec<String>,
}

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn every_script_is_run() {
            let listed: BTreeSet<String> = [$(concat!(stringify!($name), ".json")),*].map(String::from).into();
            let files = std::fs::read_dir(directory()).expect("scripts");
            let there = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
            assert_eq!(there.collect::<BTreeSet<_>>(), listed);
        }
    };
}

scripts! { apply custom deletion discovery events install leases lists namespaces patches pods refusals watches webhooks writes }

fn directory() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations/scripts")
}

fn run(script: &str) {
    let path = directory().join(format!("{script}.json"));
    let text = std::fs::read_to_string(&path).expect("the script is there");
    let steps: Value = serde_json::from_str(&text).expect("the script is JSON");
    // One namespace for every run, so that an old one that is still going is in nobody's way.
    let namespace = format!("{script}-{}", std::process::id());
    let mut run = Run {
        speakers: Vec::new(),
        faults: Vec::new(),
    };
    for server in server::servers() {
        let kept = BTreeMap::from([("ns".to_owned(), namespace.clone())]);
        run.speakers.push(Speaker { server, kept });
    }
    let prepare = serde_json::json!([
        { "say": "a namespace", "do": "POST /api/v1/namespaces", "code": 201,
          "body": { "metadata": { "name": "{ns}" } },
          "differs": { "/metadata/labels": "the name label is there since 1.21" } },
        // Where a controller makes it too, somebody was faster: admission of pods only wants it there.
        { "say": "its account", "do": "POST /api/v1/namespaces/{ns}/serviceaccounts",
          "body": { "metadata": { "name": "default" } }, "differs": { "": "made, or there already" } },
    ]);
    run.steps(&prepare);
    run.steps(&steps);
    run.speakers.iter_mut().for_each(|speaker| {
        let path = format!("DELETE /api/v1/namespaces/{namespace}");
        http::send(speaker.server.address, &path, &[], "").finish();
    });
    assert!(
        run.faults.is_empty(),
        "{script}:\n{}",
        run.faults.join("\n")
    );
}

impl Run {
    fn steps(&mut self, steps: &Value) {
        for step in steps.as_array().expect("a list of steps") {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Value) {
        let say = step["say"].as_str().expect("every step says what it shows");
        for key in step.as_object().expect("a step").keys() {
            assert!(KEYS.contains(&key.as_str()), "{say}: unknown key {key:?}");
        }
        let needs = step["needs"].as_str();
        let able = |speaker: &Speaker| needs.is_none_or(|needs| speaker.server.has(needs));
        if let Some(without) = self.speakers.iter().find(|speaker| !able(speaker)) {
            let (name, needs) = (without.server.name, needs.unwrap_or_default());
            println!("left out, because {name} does not serve {needs}: {say}");
            assert_ne!(name, "kubesim", "{say}: every step runs against ours");
            let ours = self.speakers.remove(0);
            let others = std::mem::replace(&mut self.speakers, vec![ours]);
            self.exchange(say, step);
            self.speakers.extend(others);
            return;
        }
        self.exchange(say, step);
    }

    /// Sends the step to every server, checks each answer, and then that they are the same.
    fn exchange(&mut self, say: &str, step: &Value) {
        let sent: Vec<_> = self.speakers.iter().map(|s| s.send(step)).collect();
        if !step["meanwhile"].is_null() {
            self.steps(&step["meanwhile"]);
        }
        let mut replies = Vec::new();
        for (speaker, exchange) in self.speakers.iter_mut().zip(sent) {
            let reply = read(exchange.finish(), !step["events"].is_null());
            let mut faults = Vec::new();
            // What a real server may answer as it likes is asked of ours all the same.
            match step["differs"][""].as_str() {
                Some(why) if speaker.server.name != "kubesim" => {
                    println!("not compared: {say}: {why}");
                }
                _ => check(speaker, step, &reply, &mut faults),
            }
            let told = |fault| {
                format!(
                    "- {say}: {} answers {}: {fault}",
                    speaker.server.name, reply.code
                )
            };
            self.faults.extend(faults.into_iter().map(told));
            replies.push(reply);
        }
        if let [ours, theirs] = replies.as_slice() {
            self.faults.extend(unlike(say, step, ours, theirs));
        }
    }
}

impl Speaker {
    fn send(&self, step: &Value) -> http::Exchange {
        let body = match &step["body"] {
            Value::Null => String::new(),
            Value::String(text) => self.filled(text),
            object => self.filled(&object.to_string()),
        };
        let kind = step["type"].as_str().unwrap_or("json");
        let known = TYPES.iter().find(|(name, _)| *name == kind);
        let kind = known.map_or(kind, |(_, kind)| kind);
        let accept = step["accept"].as_str().unwrap_or("application/json");
        let request = self.filled(step["do"].as_str().expect("a request"));
        let headers = [("Content-Type", kind), ("Accept", accept)];
        http::send(self.server.address, &request, &headers, &body)
    }

    fn filled(&self, text: &str) -> String {
        let fill = |text: String, (name, value): (&String, &String)| {
            text.replace(&format!("{{{name}}}"), value)
        };
        self.kept.iter().fold(text.to_owned(), fill)
    }
}

fn read(answer: http::Answer, watch: bool) -> Reply {
    let body = if watch && answer.code == 200 {
        let lines = answer.body.lines();
        let mut events: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap_or_default())
            .collect();
        // Of bookmarks in a row the last counts: how often they come, and how far the server is then, is a
        // matter of seconds and of what others write.
        let bookmark = |event: &Value| event["type"] == "BOOKMARK";
        events.reverse();
        events.dedup_by(|before, after| bookmark(before) && bookmark(after));
        events.reverse();
        events.into()
    } else {
        serde_json::from_str(&answer.body).unwrap_or_else(|_| answer.body.into())
    };
    Reply {
        code: answer.code,
        body,
    }
}

fn check(speaker: &mut Speaker, step: &Value, reply: &Reply, faults: &mut Vec<String>) {
    if let Some(code) = step["code"]
        .as_u64()
        .filter(|code| *code != u64::from(reply.code))
    {
        faults.push(format!("not {code}: {}", reply.body));
    }
    for key in ["expect", "events"] {
        if step[key].is_null() {
            continue;
        }
        let expected = speaker.filled(&step[key].to_string());
        let expected = serde_json::from_str(&expected).expect("kept values fit into JSON");
        missing(&expected, &reply.body, "", faults);
    }
    for (name, pointer) in step["keep"].as_object().into_iter().flatten() {
        match reply.body.pointer(pointer.as_str().expect("a pointer")) {
            Some(Value::String(text)) => drop(speaker.kept.insert(name.clone(), text.clone())),
            other => faults.push(format!("nothing to keep at {pointer}: {other:?}")),
        }
    }
}

fn unlike(say: &str, step: &Value, ours: &Reply, theirs: &Reply) -> Vec<String> {
    let listed = step["differs"].as_object();
    let excused =
        |path: &str| listed.is_some_and(|list| list.keys().any(|at| path.starts_with(at)));
    let mut found = Vec::new();
    if ours.code != theirs.code {
        found.push((
            String::new(),
            format!("ours {}, theirs {}", ours.code, theirs.code),
        ));
    }
    differences(
        &normalised(&ours.body),
        &normalised(&theirs.body),
        "",
        &mut found,
    );
    let found = found.into_iter().filter(|(path, _)| !excused(path));
    found
        .map(|(path, what)| format!("- {say}: differs at {path:?}: {what}"))
        .collect()
}
