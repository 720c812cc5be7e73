//! What the agent says.

use super::*;

pub(super) const AGENTS: [Case; 14] = [
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
