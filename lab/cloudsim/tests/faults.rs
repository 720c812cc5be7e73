//! What goes wrong on purpose, and what it leaves behind.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use cloudsim::{CallFault, Delivery, Fault};
use model::VSwitchId;
use serde_json::Value;
use support::{ECS, Lab, code, refusal};

const CREATE: &str = "CreateNetworkInterface";
const PARAMS: [(&str, &str); 2] = [
    ("VSwitchId", "vsw-bp1labh"),
    ("SecurityGroupId", "sg-bp1lab"),
];

fn faulty(action: Option<&str>, times: u32, how: CallFault) -> Lab {
    let mut lab = Lab::new();
    let action = action.map(str::to_owned);
    lab.region.inject(Fault::Calls { action, times, how });
    lab
}

fn enis(lab: &Lab) -> usize {
    lab.region.snapshot().enis.len()
}

#[test]
fn the_next_calls_of_an_action_are_throttled() {
    let mut lab = faulty(Some(CREATE), 2, CallFault::Throttle);
    lab.describe(&[]);
    assert_eq!(lab.refused(CREATE, &PARAMS), code(400, "Throttling"));
    assert_eq!(lab.refused(CREATE, &PARAMS), code(400, "Throttling"));
    assert_eq!(enis(&lab), 0);
    lab.create(&[]);
}

#[test]
fn a_server_error_may_hide_a_success() {
    for (how, left) in [
        (CallFault::ServerError, 0),
        (CallFault::ServerErrorAfter, 1),
    ] {
        let mut lab = faulty(None, 1, how);
        assert_eq!(lab.refused(CREATE, &PARAMS), code(500, "InternalError"));
        assert_eq!(enis(&lab), left, "{how:?}");
    }
}

#[test]
fn a_lost_answer_can_be_had_again_under_its_token() {
    let mut lab = faulty(Some(CREATE), 1, CallFault::LoseAnswer);
    let params = [PARAMS[0], PARAMS[1], ("ClientToken", "intent")];
    assert_eq!(lab.answer(ECS, CREATE, &params).delivery, Delivery::Lost);
    assert_eq!(enis(&lab), 1);
    lab.ok(CREATE, &params);
    assert_eq!(enis(&lab), 1);
    let delivered: Vec<bool> = lab.region.calls().map(|call| call.delivered).collect();
    assert_eq!(delivered, [false, true]);
}

#[test]
fn an_answer_cut_short_is_no_json() {
    let mut lab = faulty(Some(CREATE), 1, CallFault::CutAnswer);
    let answer = lab.answer(ECS, CREATE, &PARAMS);
    assert_eq!((answer.status, answer.delivery), (200, Delivery::Sent));
    assert!(
        serde_json::from_str::<Value>(&answer.body).is_err(),
        "{}",
        answer.body
    );
    assert_eq!(enis(&lab), 1);
}

#[test]
fn a_describe_may_claim_that_nothing_is_there() {
    let mut lab = faulty(Some("DescribeNetworkInterfaces"), 1, CallFault::EmptyList);
    lab.create(&[]);
    assert_eq!(lab.describe(&[]).len(), 0);
    assert_eq!(lab.describe(&[]).len(), 1);
}

#[test]
fn a_full_vswitch_gives_nothing_until_it_recovers() {
    let mut lab = Lab::new();
    let vswitch = VSwitchId::new("vsw-bp1labh").unwrap();
    lab.region.inject(Fault::VSwitchFull {
        vswitch: vswitch.clone(),
        full: true,
    });
    assert_eq!(
        lab.refused(CREATE, &PARAMS),
        code(403, "InvalidVSwitchId.IpNotEnough")
    );
    let body = lab.ok("DescribeVSwitches", &[("VSwitchId", "vsw-bp1labh")]);
    assert_eq!(
        body["VSwitches"]["VSwitch"][0]["AvailableIpAddressCount"],
        0
    );
    lab.region.inject(Fault::VSwitchFull {
        vswitch,
        full: false,
    });
    lab.create(&[]);
}

#[test]
fn strangers_use_no_fault_up() {
    let mut lab = faulty(None, 1, CallFault::Throttle);
    let secret = std::mem::replace(&mut lab.secret, "wrong".into());
    assert_eq!(lab.refused(CREATE, &PARAMS).1, "SignatureDoesNotMatch");
    lab.secret = secret;
    assert_eq!(lab.refused(CREATE, &PARAMS).1, "Throttling");
}

#[test]
fn faults_are_data() {
    let text = r#"{"calls":{"action":"AttachNetworkInterface","times":3,"how":"throttle"}}"#;
    let fault: Fault = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&fault).unwrap(), text);
    assert!(serde_json::from_str::<Fault>(r#"{"calls":{"times":3,"how":"explode"}}"#).is_err());
}

#[test]
fn the_journal_names_what_happened() {
    let mut lab = Lab::new();
    lab.create(&[]);
    let answer = lab.answer(ECS, "AttachNetworkInterface", &[]);
    assert_eq!(refusal(&answer).1, "MissingParameter");
    let calls: Vec<_> = lab.region.calls().cloned().collect();
    assert_eq!(calls.len(), 2);
    assert_eq!(
        (
            calls[0].action.as_str(),
            calls[0].status,
            calls[0].code.as_deref()
        ),
        (CREATE, 200, None)
    );
    assert_eq!(calls[1].code.as_deref(), Some("MissingParameter"));
    assert_eq!(calls[1].caller, "LTAI5tLabKey");
    for _ in 0..1100 {
        lab.answer(ECS, "Nothing", &[]);
    }
    assert_eq!(lab.region.calls().len(), 1000, "a ring, not a log");
}
