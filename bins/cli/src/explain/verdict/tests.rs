//! Every situation a pod without an address can be in, and what is said about it.

mod agents;
mod clusters;
mod own_enis;
mod pods;

use serde_json::{Value, json};

use super::{Outcome, verdict};
use crate::{
    agent::Explanation,
    cluster::Seen,
    explain::{
        facts::{AgentPod, DaemonSet, Event, Facts, Node, Pod},
        page,
    },
    status::document::Status,
};

/// A pod on a ready node with a ready agent that was never asked.
fn usual() -> Facts {
    Facts {
        name: "default/web".into(),
        pod: Seen::Is(Pod {
            uid: "u".into(),
            node: Some("node-1".into()),
            phase: "Pending".into(),
            ..Pod::default()
        }),
        node: Seen::Is(Node {
            ready: true,
            ..Node::default()
        }),
        agent_pod: Seen::Is(AgentPod {
            name: "terway-x".into(),
            running: true,
            ready: true,
            ..AgentPod::default()
        }),
        daemonset: Seen::Is(DaemonSet {
            desired: 3,
            ready: 3,
        }),
        config: Seen::Is(Ok(())),
        events: Seen::Is(Vec::new()),
        agent: said(json!({ "state": "unknown" })),
        status: status(json!({ "agent": { "ready": true } })),
        own_eni: None,
    }
}

fn said(document: Value) -> Seen<Explanation> {
    Seen::Is(serde_json::from_value(document).unwrap())
}

fn status(document: Value) -> Option<Status> {
    Some(Status::read(&document).unwrap())
}

fn pod(facts: &mut Facts) -> &mut Pod {
    match &mut facts.pod {
        Seen::Is(pod) => pod,
        _ => panic!("the usual facts have a pod"),
    }
}

fn unknown<T>(why: &str) -> Seen<T> {
    Seen::Unknown(why.into())
}

/// Nobody but the node's own agent can be asked.
fn without_api(facts: &mut Facts) {
    facts.pod = unknown("connection refused");
    facts.node = unknown("connection refused");
    facts.agent_pod = unknown("connection refused");
    facts.daemonset = unknown("connection refused");
    facts.config = unknown("connection refused");
    facts.events = unknown("connection refused");
}

fn event(reason: &str, text: &str) -> Seen<Vec<Event>> {
    Seen::Is(vec![Event {
        at: 10,
        reason: reason.into(),
        text: text.into(),
        times: 3,
    }])
}

struct Case {
    name: &'static str,
    change: fn(&mut Facts),
    outcome: Outcome,
    /// Words the page must hold.
    words: &'static [&'static str],
}

const fn case(
    name: &'static str,
    outcome: Outcome,
    words: &'static [&'static str],
    change: fn(&mut Facts),
) -> Case {
    Case {
        name,
        change,
        outcome,
        words,
    }
}

use Outcome::{Has, HasNot, Undecided};

#[test]
fn every_situation_has_its_answer() {
    let tables: [&[Case]; 4] = [
        &pods::PODS,
        &agents::AGENTS,
        &own_enis::OWN_ENIS,
        &clusters::CLUSTERS,
    ];
    for case in tables.into_iter().flatten() {
        let mut facts = usual();
        (case.change)(&mut facts);
        let answer = verdict(&facts);
        let page = page(&answer, 100, crate::text::Paint::none());
        let name = case.name;
        assert_eq!(answer.finding.outcome, case.outcome, "{name}: {page}");
        for word in case.words {
            assert!(page.contains(word), "{name}: {word:?} is not in\n{page}");
        }
        let first = page.lines().next().unwrap();
        assert!(
            !first.is_empty() && !answer.finding.next.is_empty(),
            "{name}: {page}"
        );
        if case.outcome != Has {
            assert!(
                !answer.finding.todo.is_empty(),
                "{name}: nothing to do\n{page}"
            );
        }
    }
}

#[test]
fn the_page_has_its_sections_in_order() {
    let mut facts = usual();
    facts.agent = said(json!({ "state": "waiting", "missing": "an address",
        "tried": [{ "at": 90, "what": "asked the cloud for an ENI" }] }));
    facts.events = event("Scheduled", "assigned to node-1");
    let page = page(&verdict(&facts), 100, crate::text::Paint::none());
    assert_eq!(
        page,
        "default/web waits for an address on its node\n\
         \n\
         What was tried (how long ago)\n\
         \x20   90s  event Scheduled (3 times): assigned to node-1\n\
         \x20   10s  agent: asked the cloud for an ENI\n\
         \n\
         What is missing\n\
         \x20 an address\n\
         \n\
         What happens next\n\
         \x20 the pool grows, and the pod gets the first address that is free\n\
         \n\
         What you can do\n\
         \x20 nothing yet: ask again in a minute, and see `terway-cli status` for the whole node"
    );
}

#[test]
fn what_the_api_server_or_an_agent_says_cannot_command_the_terminal() {
    let mut facts = usual();
    facts.agent = said(
        json!({ "state": "waiting", "missing": "a\u{1b}[2Jb", "next": "c\u{1b}d",
        "tried": [{ "at": 1, "what": "e\u{1b}f" }] }),
    );
    let page = page(&verdict(&facts), 100, crate::text::Paint::none());
    assert!(!page.contains('\u{1b}'), "{page:?}");
}
