//! What keeps an agent from being asked.

use super::*;

/// The agent cannot be asked, or has no say.
fn no_agent_answer(facts: &mut Facts) {
    facts.agent = Seen::Pointless;
    facts.status = None;
}

pub(super) const CLUSTERS: [Case; 13] = [
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
