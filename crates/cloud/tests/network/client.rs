//! The sender against a server on loopback: what is sent, and what each kind of trouble becomes.

use std::{sync::Arc, time::Duration};

use crate::server::{Act, Server};
use model::{EniId, FaultClass, RegionId};
use terway_cloud::{
    Answer, Client, CloudError, Config, Credentials, Deadline, Endpoint, Keys, Metadata, Scheme,
    Source, ecs::*,
};

const REQUEST_ID: &str = "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E";
const ROLE: &str = include_str!("../../../../fixtures/cloud/metadata/role.json");
/// Longer than any test takes, so that only a hang ends here.
const PATIENCE: Duration = Duration::from_secs(10);

fn client(server: &Server) -> Client {
    let keys = Keys::permanent("testid", "testsecret");
    client_with(server, vec![Source::Static(keys)])
}

fn client_with(server: &Server, sources: Vec<Source>) -> Client {
    let endpoint = Endpoint::parse(&server.base(), Scheme::Https).unwrap();
    let config = Config {
        region: RegionId::new("cn-hangzhou").unwrap(),
        ecs: endpoint.clone(),
        vpc: endpoint,
        timeout: PATIENCE,
    };
    Client::new(config, Credentials::new(sources)).unwrap()
}

fn delete() -> DeleteNetworkInterface {
    let eni = EniId::new("eni-1").unwrap();
    DeleteNetworkInterface { eni }
}

async fn call_delete(server: &Server) -> Result<Answer<()>, CloudError> {
    let deadline = Deadline::within(PATIENCE);
    client(server).call(&delete(), deadline).await
}

/// A page of describe with ENIs of these numbers.
fn page(numbers: &[u8], next_token: &str) -> String {
    let entries: Vec<String> = numbers.iter().map(|n| entry(*n)).collect();
    format!(
        r#"{{"RequestId":"{REQUEST_ID}","NextToken":"{next_token}",
            "NetworkInterfaceSets":{{"NetworkInterfaceSet":[{}]}}}}"#,
        entries.join(",")
    )
}

fn entry(number: u8) -> String {
    format!(
        r#"{{"NetworkInterfaceId":"eni-{number}","MacAddress":"00:16:3e:00:00:{number:02x}",
            "Type":"Secondary","Status":"InUse","InstanceId":"i-1","VSwitchId":"vsw-1",
            "ZoneId":"z","PrivateIpSets":{{"PrivateIpSet":
            [{{"PrivateIpAddress":"10.0.0.{number}","Primary":true}}]}}}}"#
    )
}

fn refusal(code: &str, message: &str) -> String {
    format!(r#"{{"Code":"{code}","Message":"{message}","RequestId":"{REQUEST_ID}"}}"#)
}

#[tokio::test]
async fn a_call_is_one_signed_post() {
    let server =
        Server::start(|_, _| Act::Answer(200, format!(r#"{{"RequestId":"{REQUEST_ID}"}}"#))).await;
    let client = client(&server);
    for _ in 0..2 {
        let deadline = Deadline::within(PATIENCE);
        let answer = client.call(&delete(), deadline).await.unwrap();
        assert_eq!(answer.request_id.as_str(), REQUEST_ID);
    }
    let seen = server.seen();
    let [first, second] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/"));
    assert!(
        first
            .header("user-agent")
            .unwrap()
            .starts_with("terway-rs/")
    );
    for part in [
        "Action=DeleteNetworkInterface",
        "NetworkInterfaceId=eni-1",
        "Signature=",
    ] {
        assert!(first.body.contains(part), "{}", first.body);
    }
    let nonce = |body: &str| {
        body.split('&')
            .find(|p| p.starts_with("SignatureNonce="))
            .map(str::to_owned)
    };
    assert_ne!(
        nonce(&first.body),
        nonce(&second.body),
        "a nonce was used twice"
    );
}

#[tokio::test]
async fn a_refusal_keeps_code_class_and_request_id() {
    let server = Server::start(|_, _| {
        Act::Answer(403, refusal("InvalidVSwitchId.IpNotEnough", "no IP left"))
    })
    .await;
    let error = call_delete(&server).await.unwrap_err();
    assert_eq!(error.code(), Some("InvalidVSwitchId.IpNotEnough"));
    assert_eq!(
        error.class(),
        FaultClass::Exhausted(model::Exhausted::VSwitch)
    );
    assert_eq!(error.request_id().unwrap().as_str(), REQUEST_ID);
    let text = error.to_string();
    for part in [
        "DeleteNetworkInterface",
        "IpNotEnough",
        "no IP left",
        REQUEST_ID,
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_refused_signature_does_not_repeat_what_was_signed() {
    let server = Server::start(|_, _| {
        let echo = "server string to sign is:POST&%2F&SecurityToken%3Dtop-secret";
        Act::Answer(400, refusal("SignatureDoesNotMatch", echo))
    })
    .await;
    let error = call_delete(&server).await.unwrap_err();
    assert_eq!(error.class(), FaultClass::Denied);
    assert!(
        !format!("{error} {error:?}").contains("top-secret"),
        "{error:?}"
    );
}

#[tokio::test]
async fn trouble_after_sending_is_unknown_never_no() {
    type Trouble = fn() -> Act;
    let troubles: [(&str, Trouble); 7] = [
        ("hang-up", || Act::HangUp),
        ("cut body", || Act::Cut("{\"RequestId\":".into())),
        ("page of a proxy", || {
            Act::Answer(502, "<html>Bad Gateway</html>".into())
        }),
        ("refusal of a proxy", || {
            Act::Answer(403, "<html>Forbidden</html>".into())
        }),
        ("empty success", || Act::Answer(200, String::new())),
        ("success without id", || Act::Answer(200, "{}".into())),
        ("server error", || {
            Act::Answer(500, refusal("InternalError", "oops"))
        }),
    ];
    for (name, trouble) in troubles {
        let server = Server::start(move |_, _| trouble()).await;
        let error = call_delete(&server).await.unwrap_err();
        assert_eq!(error.class(), FaultClass::Unknown, "{name}: {error:?}");
        assert_eq!(error.action(), "DeleteNetworkInterface", "{name}");
    }
}

#[tokio::test]
async fn a_code_under_a_success_status_is_still_a_refusal() {
    let server = Server::start(|_, _| Act::Answer(200, refusal("InvalidEniId.NotFound", ""))).await;
    let error = call_delete(&server).await.unwrap_err();
    assert_eq!(error.class(), FaultClass::Gone);
}

#[tokio::test]
async fn a_server_that_is_silent_ends_at_the_deadline() {
    let server = Server::start(|_, _| Act::Silence).await;
    let deadline = Deadline::within(Duration::from_millis(50));
    let error = client(&server).call(&delete(), deadline).await.unwrap_err();
    assert!(matches!(error, CloudError::Deadline { .. }), "{error:?}");
    assert_eq!(error.class(), FaultClass::Unknown);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_transport_error() {
    let server = Server::start(|_, _| Act::HangUp).await;
    let client = client(&server);
    drop(server);
    // The listener closes when its task is gone; a connection accepted before is hung up: either way
    // there is no answer.
    let error = client
        .call(&delete(), Deadline::within(PATIENCE))
        .await
        .unwrap_err();
    assert!(matches!(error, CloudError::Transport { .. }), "{error:?}");
}

#[tokio::test]
async fn a_call_outside_the_limits_is_not_sent() {
    let server = Server::start(|_, _| Act::HangUp).await;
    let call = DescribeInstanceTypes { types: Vec::new() };
    let error = client(&server)
        .call(&call, Deadline::within(PATIENCE))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FaultClass::Invalid);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let server = Server::start(|_, _| Act::HangUp).await;
    let client = client_with(&server, Vec::new());
    let error = client
        .call(&delete(), Deadline::within(PATIENCE))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FaultClass::Denied);
    assert!(server.seen().is_empty());
}

/// A temporary key the cloud took back early is fetched anew instead of being used until it expires.
#[tokio::test]
async fn a_key_the_cloud_no_longer_knows_is_dropped() {
    let role = "/latest/meta-data/ram/security-credentials/r";
    let server = Server::start(move |seen, _| match seen.path.as_str() {
        "/" => Act::Answer(400, refusal("InvalidSecurityToken.Expired", "expired")),
        "/latest/api/token" => Act::Answer(200, "session".into()),
        path if path == role => Act::Answer(200, ROLE.replace("2026-11-01", "2126-11-01")),
        _ => Act::Answer(200, "r".into()),
    })
    .await;
    let metadata = Arc::new(Metadata::new(&server.base()).unwrap());
    let client = client_with(&server, vec![Source::InstanceRole(metadata)]);
    for fetched in 1..=2 {
        let deadline = Deadline::within(PATIENCE);
        let error = client.call(&delete(), deadline).await.unwrap_err();
        assert_eq!(error.class(), FaultClass::Denied);
        assert_eq!(server.count(role), fetched);
    }
    let calls = server.seen();
    let signed = calls.iter().find(|seen| seen.path == "/").unwrap();
    assert!(
        signed.body.contains("SecurityToken=example-token"),
        "{}",
        signed.body
    );
}

#[tokio::test]
async fn every_page_is_read_and_an_eni_on_two_pages_is_one() {
    let server = Server::start(|seen, _| {
        let next = |token: &str| seen.body.contains(&format!("NextToken={token}"));
        Act::Answer(
            200,
            match () {
                () if next("p2") => page(&[2, 3], "p3"),
                () if next("p3") => page(&[4], ""),
                () => page(&[1, 2], "p2"),
            },
        )
    })
    .await;
    let call = DescribeNetworkInterfaces::default();
    let deadline = Deadline::within(PATIENCE);
    let answer = client(&server)
        .describe_network_interfaces(&call, deadline)
        .await
        .unwrap();
    let ids: Vec<_> = answer
        .value
        .iter()
        .map(|found| found.eni.id.as_str())
        .collect();
    assert_eq!(ids, ["eni-1", "eni-2", "eni-3", "eni-4"]);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let server = Server::start(|_, before| match before {
        0 => Act::Answer(200, page(&[1], "p2")),
        _ => Act::Answer(400, refusal("Throttling.User", "slow down")),
    })
    .await;
    let call = DescribeNetworkInterfaces::default();
    let deadline = Deadline::within(PATIENCE);
    let error = client(&server)
        .describe_network_interfaces(&call, deadline)
        .await
        .unwrap_err();
    assert_eq!(error.class(), FaultClass::Throttled);
}

#[tokio::test]
async fn paging_that_does_not_end_is_given_up() {
    let server = Server::start(|_, _| Act::Answer(200, page(&[1], "again"))).await;
    let call = DescribeNetworkInterfaces::default();
    let deadline = Deadline::within(PATIENCE);
    let error = client(&server)
        .describe_network_interfaces(&call, deadline)
        .await
        .unwrap_err();
    assert!(matches!(error, CloudError::Undecodable { .. }), "{error:?}");
    assert_eq!(server.seen().len(), terway_cloud::client::PAGES_MAX);
}

#[tokio::test]
async fn more_ids_than_a_call_takes_are_asked_for_in_parts() {
    let server = Server::start(|_, _| Act::Answer(200, page(&[], ""))).await;
    let ids = (0..250)
        .map(|n| EniId::new(format!("eni-{n}")).unwrap())
        .collect();
    let call = DescribeNetworkInterfaces {
        ids,
        ..Default::default()
    };
    let deadline = Deadline::within(PATIENCE);
    client(&server)
        .describe_network_interfaces(&call, deadline)
        .await
        .unwrap();
    let asked: Vec<usize> = server
        .seen()
        .iter()
        .map(|seen| seen.body.matches("NetworkInterfaceId.").count())
        .collect();
    assert_eq!(asked, [100, 100, 50]);
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let server = Server::start(|_, _| Act::Answer(200, " ".repeat(17 << 20))).await;
    let error = call_delete(&server).await.unwrap_err();
    assert!(matches!(error, CloudError::Transport { .. }), "{error:?}");
}

/// Whoever drives calls spawns them.
#[test]
fn calls_can_be_spawned() {
    fn assert_send<T: Send>(_: &T) {}
    fn spawned(client: &'static Client, metadata: &'static terway_cloud::Metadata) {
        let deadline = Deadline::at(tokio::time::Instant::now());
        let call: &'static DescribeNetworkInterfaces =
            Box::leak(Box::new(DescribeNetworkInterfaces::default()));
        assert_send(&client.describe_network_interfaces(call, deadline));
        assert_send(&metadata.instance(deadline));
        assert_send(&metadata.interface(model::Mac([0; 6]), deadline));
    }
    let _ = spawned;
}
