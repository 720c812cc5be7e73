//! Who gets in: keys, signatures, clocks, nonces, role credentials, grants, unknown calls.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use cloudsim::{Grant, MetadataRequest};
use serde_json::Value;
use support::{ECS, Lab, VPC, code, refusal, sign, text};

const LOOK: &str = "DescribeNetworkInterfaces";

#[test]
fn strangers_are_refused() {
    let mut lab = Lab::new();
    lab.secret.push('x');
    assert_eq!(lab.refused(LOOK, &[]), code(400, "SignatureDoesNotMatch"));
    let mut lab = Lab::new();
    lab.key.push('x');
    assert_eq!(
        lab.refused(LOOK, &[]),
        code(404, "InvalidAccessKeyId.NotFound")
    );
    let mut lab = Lab::new();
    lab.token = Some("a token that no long-lived key has".into());
    assert_eq!(
        lab.refused(LOOK, &[]),
        code(400, "InvalidSecurityToken.Malformed")
    );
}

#[test]
fn a_changed_parameter_breaks_the_signature() {
    let mut lab = Lab::new();
    let mut request = lab.request(ECS, LOOK, &[]);
    request.query.push_str("&VpcId=vpc-other");
    let answer = lab.region.handle(lab.now, &request);
    assert_eq!(refusal(&answer), code(400, "SignatureDoesNotMatch"));
}

#[test]
fn a_form_is_as_good_as_a_query() {
    let mut lab = Lab::new();
    let parameters = lab.parameters(ECS, LOOK, &[]);
    let mut request = sign("POST", &parameters, &lab.secret);
    request.body = std::mem::take(&mut request.query).into_bytes();
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    request.headers.insert("content-type".into(), kind.into());
    assert_eq!(lab.region.handle(lab.now, &request).status, 200);
}

#[test]
fn a_clock_may_be_off_by_a_quarter_of_an_hour() {
    for (off, status) in [(15 * 60, 200), (15 * 60 + 1, 400)] {
        let mut lab = Lab::new();
        let request = lab.request(ECS, LOOK, &[]);
        let later = lab.now.after(Duration::from_secs(off));
        assert_eq!(
            lab.region.handle(later, &request).status,
            status,
            "{off} s late"
        );
        let mut lab = Lab::new();
        let now = lab.now;
        lab.now = now.after(Duration::from_secs(off));
        let request = lab.request(ECS, LOOK, &[]);
        let answer = lab.region.handle(now, &request);
        assert_eq!(answer.status, status, "{off} s early");
        if status == 400 {
            assert_eq!(refusal(&answer).1, "InvalidTimeStamp.Expired");
        }
    }
}

#[test]
fn a_call_works_once() {
    let mut lab = Lab::new();
    let request = lab.request(ECS, LOOK, &[]);
    assert_eq!(lab.region.handle(lab.now, &request).status, 200);
    assert_eq!(
        refusal(&lab.region.handle(lab.now, &request)),
        code(400, "SignatureNonceUsed")
    );
    lab.pass(14 * 60);
    assert_eq!(
        refusal(&lab.region.handle(lab.now, &request)),
        code(400, "SignatureNonceUsed")
    );
}

#[test]
fn a_refused_signature_does_not_burn_the_nonce() {
    let mut lab = Lab::new();
    let good = lab.request(ECS, LOOK, &[]);
    let mut bad = good.clone();
    bad.query.push_str("&VpcId=x");
    assert_eq!(
        refusal(&lab.region.handle(lab.now, &bad)).1,
        "SignatureDoesNotMatch"
    );
    assert_eq!(lab.region.handle(lab.now, &good).status, 200);
}

#[test]
fn unknown_calls_and_formats_are_refused() {
    let mut lab = Lab::new();
    for (version, action, expected) in [
        (ECS, "RebootTheWorld", code(404, "InvalidAction.NotFound")),
        (
            VPC,
            "CreateNetworkInterface",
            code(404, "InvalidAction.NotFound"),
        ),
        ("2099-01-01", LOOK, code(400, "InvalidVersion")),
        ("", LOOK, code(400, "MissingParameter")),
        (ECS, "", code(400, "MissingParameter")),
    ] {
        let answer = lab.answer(version, action, &[]);
        assert_eq!(refusal(&answer), expected, "{version} {action}");
    }
    assert_eq!(
        lab.refused(LOOK, &[("Format", "XML")]),
        code(400, "InvalidParameter")
    );
    assert_eq!(
        lab.refused(LOOK, &[("Format", "")]),
        code(400, "InvalidParameter")
    );
}

#[test]
fn a_key_may_call_what_it_was_granted() {
    let mut lab = Lab::with(|config| {
        config.keys[0].grant = Grant::Only(BTreeSet::from(["vpc:DescribeVSwitches".to_owned()]));
    });
    lab.ok("DescribeVSwitches", &[]);
    assert_eq!(lab.refused(LOOK, &[]), code(403, "Forbidden.RAM"));
}

#[test]
fn role_credentials_from_metadata_sign_calls_until_they_expire() {
    let mut lab = Lab::new();
    let instance = lab.instance("ecs.g7.xlarge", "vsw-bp1labh");
    let path = "/latest/meta-data/ram/security-credentials/";
    let fetch = |lab: &mut Lab| -> Value {
        let role = lab
            .region
            .metadata(lab.now, &instance.id, &MetadataRequest::get(path))
            .body;
        let request = MetadataRequest::get(format!("{path}{role}"));
        serde_json::from_str(&lab.region.metadata(lab.now, &instance.id, &request).body).unwrap()
    };
    let first = fetch(&mut lab);
    assert_eq!(text(&first["Code"]), "Success");
    assert_eq!(text(&first["Expiration"]), "2026-11-23T04:06:00Z");
    (lab.key, lab.secret) = (text(&first["AccessKeyId"]), text(&first["AccessKeySecret"]));
    assert_eq!(lab.refused(LOOK, &[]), code(400, "MissingSecurityToken"));
    lab.token = Some("another's".into());
    assert_eq!(
        lab.refused(LOOK, &[]),
        code(400, "InvalidSecurityToken.MismatchWithAccessKey")
    );
    lab.token = Some(text(&first["SecurityToken"]));
    lab.ok(LOOK, &[]);
    assert_eq!(fetch(&mut lab), first, "the same until it is time to renew");
    lab.pass(6 * 3600 - 60);
    assert_ne!(fetch(&mut lab), first, "a new one before the old one ends");
    lab.ok(LOOK, &[]);
    lab.pass(61);
    assert_eq!(
        lab.refused(LOOK, &[]),
        code(400, "InvalidSecurityToken.Expired")
    );
}
