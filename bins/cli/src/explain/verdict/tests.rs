//! Every situation a pod without an address can be in, and what is said about it.

use serde_json::{Value, json};

use super::{Outcome, verdict};
use crate::{
    agent::Explanation,
    cluster::Seen,
    explain::{
        facts::{AgentPod, DaemonSet, Event, Facts, Node, Pod},
        own_eni::{ControlPlane, OwnEni, Record},
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

const PODS: [Case; 14] = [
    case(
        "no such pod",
        HasNot,
        &["does not exist", "namespace"],
        |f| f.pod = Seen::Absent,
    ),
    case("gone, address held", HasNot, &["still holds"], |f| {
        f.pod = Seen::Absent;
        f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.1"] }));
    }),
    case(
        "host network",
        Has,
        &["its node's network", "192.168.0.1"],
        |f| {
            pod(f).host_network = true;
            pod(f).addresses = vec!["192.168.0.1".into()];
        },
    ),
    case(
        "host network, not reported",
        HasNot,
        &["its node's network"],
        |f| {
            pod(f).host_network = true;
        },
    ),
    case("host network, no node", HasNot, &["no node yet"], |f| {
        pod(f).host_network = true;
        pod(f).node = None;
    }),
    case("ended", HasNot, &["has ended (Succeeded)"], |f| {
        pod(f).phase = "Succeeded".into()
    }),
    case("being deleted", HasNot, &["being deleted"], |f| {
        pod(f).deleting = true
    }),
    case(
        "unschedulable",
        HasNot,
        &["no node yet", "Insufficient cpu"],
        |f| {
            pod(f).node = None;
            pod(f).unscheduled = Some("Unschedulable: 0/3 nodes: Insufficient cpu".into());
        },
    ),
    case("no scheduler", HasNot, &["kube-scheduler"], |f| {
        pod(f).node = None
    }),
    case(
        "gated",
        HasNot,
        &["scheduling gates", "example.com/hold"],
        |f| {
            pod(f).node = None;
            pod(f).gates = vec!["example.com/hold".into()];
        },
    ),
    case("well", Has, &["has 10.0.0.1, on eni-1"], |f| {
        pod(f).addresses = vec!["10.0.0.1".into()];
        f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.1"], "eni": "eni-1" }));
    }),
    case(
        "API and node differ",
        Has,
        &["10.0.0.1", "10.0.0.2", "differ"],
        |f| {
            pod(f).addresses = vec!["10.0.0.1".into()];
            f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.2"] }));
        },
    ),
    case(
        "another plugin's",
        Has,
        &["not from this node's agent"],
        |f| {
            pod(f).addresses = vec!["172.17.0.2".into()];
        },
    ),
    case(
        "address, agent silent",
        Has,
        &["as the API server says", "no answer within"],
        |f| {
            pod(f).addresses = vec!["10.0.0.1".into()];
            f.agent = unknown("no answer within 15s");
            f.status = None;
        },
    ),
];

const AGENTS: [Case; 14] = [
    case(
        "former address, new sandbox waits",
        HasNot,
        &["waits for an address"],
        |f| {
            pod(f).addresses = vec!["10.0.0.1".into()];
            f.agent = said(json!({ "state": "waiting" }));
        },
    ),
    case(
        "attached, not reported",
        Has,
        &["10.0.0.1", "not reported"],
        |f| {
            f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.1"] }));
        },
    ),
    case(
        "waits",
        HasNot,
        &["waits for an address", "no address is free", "in 5 s"],
        |f| {
            f.agent = said(json!({ "state": "waiting", "missing": "no address is free",
            "next": "the ENI is attached in 5 s" }));
        },
    ),
    case(
        "waits, vSwitch full",
        HasNot,
        &["pool cannot grow", "vsw-1", "add a vSwitch"],
        |f| {
            f.agent = said(json!({ "state": "waiting", "missing": "no address" }));
            f.status = status(json!({ "agent": { "ready": true, "exhausted":
            { "reason": "none of the vSwitches vsw-1 has a free address", "until": 99 } } }));
        },
    ),
    case("waits, not permitted", HasNot, &["RAM action"], |f| {
        f.agent = said(json!({ "state": "waiting", "missing": "an ENI" }));
        f.status = status(json!({ "agent": { "ready": true, "last_cloud_error":
            { "at": 9, "action": "CreateNetworkInterface", "text": "Forbidden.RAM (HTTP 403)" } } }));
    }),
    case(
        "failed",
        HasNot,
        &["last attempt", "kernel refused", "agent: tried"],
        |f| {
            f.agent = said(
                json!({ "state": "failed", "missing": "the kernel refused: no buffer",
            "tried": [{ "at": 5, "what": "tried" }] }),
            );
        },
    ),
    case("former sandbox", HasNot, &["former sandbox"], |f| {
        f.agent = said(json!({ "state": "detaching" }));
    }),
    case(
        "never asked",
        HasNot,
        &["nobody has asked", "/etc/cni/net.d"],
        |_| {},
    ),
    case(
        "plugin missing",
        HasNot,
        &["sandbox could not be made", "bin_dir", "(3 times)"],
        |f| {
            f.events = event(
                "FailedCreatePodSandBox",
                "failed to find plugin \"terway\" in path",
            );
        },
    ),
    case(
        "volume first",
        HasNot,
        &["volume", "secret \"x\" not found"],
        |f| {
            f.events = event("FailedMount", "secret \"x\" not found");
        },
    ),
    case(
        "no API, attached",
        Has,
        &["10.0.0.1", "as its node's agent says", "connection refused"],
        |f| {
            without_api(f);
            f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.1"] }));
        },
    ),
    case(
        "no API, waits",
        HasNot,
        &["waits", "connection refused"],
        |f| {
            without_api(f);
            f.agent = said(json!({ "state": "waiting" }));
        },
    ),
    case(
        "no API, unknown to the agent",
        Undecided,
        &["could not be found out"],
        |f| {
            without_api(f);
        },
    ),
    case(
        "nobody answers",
        Undecided,
        &["could not be found out", "kubeconfig"],
        |f| {
            without_api(f);
            f.agent = unknown("no agent listens");
            f.status = None;
        },
    ),
];

/// The usual pod gets an ENI of its own; what there is of it so far.
fn own_eni(facts: &mut Facts, record: Seen<Record>, ready: Option<i32>, trunk: bool) {
    facts.agent = said(json!({ "state": "waiting", "missing": "its PodENI" }));
    facts.own_eni = Some(OwnEni {
        record,
        control_plane: ready.map_or(Seen::Absent, |ready| {
            Seen::Is(ControlPlane { wanted: 2, ready })
        }),
        trunk: Seen::Is(trunk),
    });
}

fn record(phase: &str, message: &str) -> Seen<Record> {
    Seen::Is(Record {
        phase: phase.into(),
        message: message.into(),
        pod_uid: "u".into(),
        ..Record::default()
    })
}

const OWN_ENIS: [Case; 10] = [
    case(
        "no control plane",
        HasNot,
        &["no control plane makes it", "not installed"],
        |f| own_eni(f, Seen::Absent, None, true),
    ),
    case(
        "control plane down",
        HasNot,
        &["0 of 2 are", "logs deployment/"],
        |f| own_eni(f, record("Binding", "waiting for the ENI"), Some(0), true),
    ),
    case(
        "being attached",
        HasNot,
        &["in phase Binding", "to be attached to node-1"],
        |f| {
            own_eni(
                f,
                record("Binding", "waiting for the ENI to be attached to node-1"),
                Some(2),
                true,
            )
        },
    ),
    case(
        "refused",
        HasNot,
        &["Forbidden.RAM", "grant the RAM action"],
        |f| {
            let text = "the ENI for eth0 was not made: CreateNetworkInterface was refused with Forbidden.RAM";
            own_eni(f, record("", text), Some(1), true);
        },
    ),
    case(
        "told by an event only",
        HasNot,
        &["no PodENI is there yet", "no free address", "add a vSwitch"],
        |f| {
            own_eni(f, Seen::Absent, Some(2), true);
            f.events = event(
                "PodENIWaiting",
                "no vSwitch serves zone z: vsw-1 has no free address",
            );
        },
    ),
    case(
        "no trunk",
        HasNot,
        &["has no trunk ENI", "enable_eni_trunking"],
        |f| own_eni(f, Seen::Absent, Some(2), false),
    ),
    case("of the pod before it", HasNot, &["in phase Bind"], |f| {
        own_eni(f, record("Bind", ""), Some(2), true);
        pod(f).uid = "another".into();
    }),
    case("going", HasNot, &["is being deleted"], |f| {
        let Seen::Is(mut one) = record("Bind", "") else {
            return;
        };
        one.deleting = true;
        own_eni(f, Seen::Is(one), Some(2), true);
    }),
    case(
        "bound, and the agent is at it",
        HasNot,
        &["waits for an address on its node"],
        |f| own_eni(f, record("Bind", ""), Some(2), true),
    ),
    case(
        "may not be asked",
        HasNot,
        &[
            "waits for an address on its node",
            "its PodENI",
            "forbidden",
        ],
        |f| own_eni(f, unknown("forbidden"), Some(2), true),
    ),
];

/// The agent cannot be asked, or has no say.
fn no_agent_answer(facts: &mut Facts) {
    facts.agent = Seen::Pointless;
    facts.status = None;
}

const CLUSTERS: [Case; 13] = [
    case(
        "not installed",
        HasNot,
        &["not installed", "manifests"],
        |f| {
            no_agent_answer(f);
            f.daemonset = Seen::Absent;
            f.agent_pod = Seen::Absent;
            f.config = Seen::Absent;
        },
    ),
    case(
        "no ConfigMap",
        HasNot,
        &["eni-config does not exist", "kubectl"],
        |f| {
            f.config = Seen::Absent;
        },
    ),
    case(
        "ConfigMap no JSON",
        HasNot,
        &["no JSON (line 3, column 1)"],
        |f| {
            f.config = Seen::Is(Err("its key eni_conf is no JSON (line 3, column 1)".into()));
        },
    ),
    case(
        "value makes no sense",
        HasNot,
        &["eni_conf key ip_stack"],
        |f| {
            f.status = status(json!({ "agent": { "ready": false,
            "config_error": "eni_conf key ip_stack is \"dual\"" } }));
        },
    ),
    case(
        "node gone",
        HasNot,
        &["node-1, which does not exist"],
        |f| {
            no_agent_answer(f);
            f.node = Seen::Absent;
            f.agent_pod = Seen::Absent;
        },
    ),
    case(
        "kubelet silent",
        HasNot,
        &["stopped to report", "is it up"],
        |f| {
            f.agent = unknown("no answer within 15s");
            f.status = None;
            f.node = Seen::Is(Node {
                silent: true,
                why: "NodeStatusUnknown".into(),
                ..Node::default()
            });
        },
    ),
    case(
        "no agent there",
        HasNot,
        &["no agent runs", "wants 3 and has 3", "tolerations"],
        |f| {
            no_agent_answer(f);
            f.agent_pod = Seen::Absent;
        },
    ),
    case(
        "crash loop",
        HasNot,
        &["does not run", "CrashLoopBackOff", "--previous"],
        |f| {
            no_agent_answer(f);
            f.agent_pod = Seen::Is(AgentPod {
                name: "terway-x".into(),
                restarts: 7,
                trouble: Some("CrashLoopBackOff".into()),
                ..AgentPod::default()
            });
        },
    ),
    case("image missing", HasNot, &["ErrImagePull"], |f| {
        no_agent_answer(f);
        f.agent_pod = Seen::Is(AgentPod {
            trouble: Some("ErrImagePull".into()),
            ..AgentPod::default()
        });
    }),
    case(
        "agent not ready",
        HasNot,
        &["runs and is not ready", "metadata", "100.100.100.200"],
        |f| {
            f.status = status(
                json!({ "agent": { "ready": false, "not_ready": "metadata does not answer" } }),
            );
        },
    ),
    case(
        "agent not ready, silent",
        HasNot,
        &["runs and is not ready", "logs terway-x"],
        |f| {
            f.agent = unknown("not permitted: pods/exec");
            f.status = None;
            if let Seen::Is(pod) = &mut f.agent_pod {
                pod.ready = false;
            }
        },
    ),
    case(
        "node not ready",
        HasNot,
        &["node of default/web is not ready", "PLEG"],
        |f| {
            f.node = Seen::Is(Node {
                why: "KubeletNotReady: PLEG".into(),
                ..Node::default()
            });
        },
    ),
    case(
        "no permission to ask the agent",
        HasNot,
        &["could not be asked", "pods/exec"],
        |f| {
            f.agent = unknown("not permitted: pods/exec");
            f.status = None;
        },
    ),
];

#[test]
fn every_situation_has_its_answer() {
    for case in PODS.iter().chain(&AGENTS).chain(&OWN_ENIS).chain(&CLUSTERS) {
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
