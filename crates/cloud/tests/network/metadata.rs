//! The metadata client and the keys it gives, against a server on loopback.

use std::{io::Write as _, sync::Arc, time::Duration};

use crate::server::{Act, Seen, Server};
use terway_cloud::{
    CredentialError, Credentials, Deadline, Keys, Metadata, MetadataError, Source,
    metadata::Retries,
};

const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN: &str = "/latest/api/token";
const ROLE: &str = include_str!("../../../../fixtures/cloud/metadata/role.json");

fn deadline() -> Deadline {
    Deadline::within(PATIENCE)
}

fn metadata(server: &Server) -> Metadata {
    let retries = Retries {
        attempts: 4,
        first_pause: Duration::from_millis(1),
    };
    Metadata::new(&server.base()).unwrap().with_retries(retries)
}

/// What a healthy service holds at a path.
fn value(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/latest/meta-data/")?;
    let nic = "network/interfaces/macs/00:16:3e:00:00:01/";
    if let Some(leaf) = path.strip_prefix(nic) {
        return Some(match leaf {
            "network-interface-id" => "eni-1",
            "primary-ip-address" => "192.168.0.10",
            "gateway" => "192.168.0.253",
            "private-ipv4s" => "[\"192.168.0.10\",\"192.168.0.11\"]",
            "vswitch-id" => "vsw-1",
            "vswitch-cidr-block" => "192.168.0.0/24",
            _ => return None,
        });
    }
    Some(match path {
        "instance-id" => "i-1",
        "region-id" => "cn-hangzhou",
        "zone-id" => "cn-hangzhou-i",
        "vpc-id" => "vpc-1",
        "vswitch-id" => "vsw-1",
        "mac" => "00:16:3e:00:00:01\n",
        "instance/instance-type" => "ecs.g7.xlarge",
        "network/interfaces/macs/" => "00:16:3e:00:00:01/\n00:16:3e:00:00:02/\n",
        "ram/security-credentials/" => "node-role\n",
        "ram/security-credentials/node-role" => ROLE,
        _ => return None,
    })
}

fn healthy(seen: &Seen) -> Act {
    if seen.path == TOKEN {
        let asked = seen.header("x-aliyun-ecs-metadata-token-ttl-seconds");
        return match (seen.method.as_str(), asked) {
            ("PUT", Some("21600")) => Act::Answer(200, "session".into()),
            _ => Act::Answer(400, String::new()),
        };
    }
    if seen.header("x-aliyun-ecs-metadata-token") != Some("session") {
        return Act::Answer(401, String::new());
    }
    match value(&seen.path) {
        Some(text) => Act::Answer(200, text.into()),
        None => Act::Answer(404, String::new()),
    }
}

#[tokio::test]
async fn facts_are_read_with_one_token() {
    let server = Server::start(|seen, _| healthy(seen)).await;
    let metadata = metadata(&server);
    let instance = metadata.instance(deadline()).await.unwrap();
    assert_eq!(instance.instance.as_str(), "i-1");
    assert_eq!(instance.zone.as_str(), "cn-hangzhou-i");
    assert_eq!(instance.instance_type, "ecs.g7.xlarge");
    let macs = metadata.interfaces(deadline()).await.unwrap();
    assert_eq!(macs.len(), 2);
    assert_eq!(macs[0], instance.primary_mac);
    let nic = metadata.interface(macs[0], deadline()).await.unwrap();
    assert_eq!(nic.eni.as_str(), "eni-1");
    assert_eq!(nic.addresses.len(), 2);
    assert_eq!(nic.vswitch_cidr, "192.168.0.0/24".parse().unwrap());
    assert_eq!(server.count(TOKEN), 1);
}

#[tokio::test]
async fn an_interface_that_is_not_there_yet_is_absent() {
    let server = Server::start(|seen, _| healthy(seen)).await;
    let mac = model::Mac([0, 0x16, 0x3e, 0, 0, 2]);
    let error = metadata(&server)
        .interface(mac, deadline())
        .await
        .unwrap_err();
    assert!(error.is_absent(), "{error:?}");
    assert!(error.path().contains("00:16:3e:00:00:02"), "{error}");
}

#[tokio::test]
async fn a_forgotten_token_is_renewed_once() {
    // The first token is no longer known by the time it is used.
    let server = Server::start(|seen, before| match (seen.path.as_str(), before) {
        (TOKEN, 0) => Act::Answer(200, "forgotten".into()),
        _ => healthy(seen),
    })
    .await;
    let text = metadata(&server)
        .text("instance-id", deadline())
        .await
        .unwrap();
    assert_eq!(text, "i-1");
    assert_eq!(server.count(TOKEN), 2);
}

#[tokio::test]
async fn a_service_that_knows_no_token_is_not_asked_for_ever() {
    let server = Server::start(|seen, _| match seen.path.as_str() {
        TOKEN => Act::Answer(200, "session".into()),
        _ => Act::Answer(401, String::new()),
    })
    .await;
    let error = metadata(&server).text("mac", deadline()).await.unwrap_err();
    assert!(
        matches!(error, MetadataError::Refused { status: 401, .. }),
        "{error:?}"
    );
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn trouble_that_may_pass_is_tried_again() {
    for trouble in [500, 503, 429, 0] {
        let server = Server::start(move |seen, before| match (before % 3, trouble) {
            (2, _) => healthy(seen),
            (_, 0) => Act::HangUp,
            (_, status) => Act::Answer(status, String::new()),
        })
        .await;
        let text = metadata(&server).text("instance-id", deadline()).await;
        assert_eq!(text.unwrap(), "i-1", "trouble {trouble}");
        assert_eq!(server.seen().len(), 6, "trouble {trouble}");
    }
}

#[tokio::test]
async fn trouble_that_stays_is_an_error_after_four_tries() {
    let server = Server::start(|_, _| Act::Answer(503, String::new())).await;
    let error = metadata(&server).text("mac", deadline()).await.unwrap_err();
    assert!(
        matches!(error, MetadataError::Refused { status: 503, .. }),
        "{error:?}"
    );
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let server = Server::start(|_, _| Act::Answer(403, String::new())).await;
    let error = metadata(&server).text("mac", deadline()).await.unwrap_err();
    assert!(
        matches!(error, MetadataError::Refused { status: 403, .. }),
        "{error:?}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_silent_service_ends_at_the_deadline() {
    let server = Server::start(|_, _| Act::Silence).await;
    let soon = Deadline::within(Duration::from_millis(50));
    let error = metadata(&server).text("mac", soon).await.unwrap_err();
    assert!(
        matches!(error, MetadataError::Transport { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_malformed_value_names_its_path() {
    for (path, bad) in [
        ("instance-id", ""),
        ("instance-id", "two words"),
        ("zone-id", "<html></html>"),
        ("region-id", "{\"error\":1}"),
        ("mac", "00:16:3e:00:00"),
        ("instance/instance-type", "a\nb"),
        (
            "network/interfaces/macs/00:16:3e:00:00:01/gateway",
            "192.168.0",
        ),
        (
            "network/interfaces/macs/00:16:3e:00:00:01/private-ipv4s",
            "[\"192.168.0.10\"",
        ),
        (
            "network/interfaces/macs/00:16:3e:00:00:01/private-ipv4s",
            "[]",
        ),
        (
            "network/interfaces/macs/00:16:3e:00:00:01/private-ipv4s",
            "[\"192.168.0.11\"]",
        ),
        (
            "network/interfaces/macs/00:16:3e:00:00:01/vswitch-cidr-block",
            "192.168.0.0",
        ),
    ] {
        let full = format!("/latest/meta-data/{path}");
        let server = Server::start(move |seen, _| {
            if seen.path == full {
                Act::Answer(200, bad.into())
            } else {
                healthy(seen)
            }
        })
        .await;
        let metadata = metadata(&server);
        let error = match path.strip_prefix("network") {
            Some(_) => {
                let mac = model::Mac([0, 0x16, 0x3e, 0, 0, 1]);
                metadata.interface(mac, deadline()).await.map(drop)
            }
            None => metadata.instance(deadline()).await.map(drop),
        }
        .unwrap_err();
        assert!(
            matches!(error, MetadataError::Malformed { .. }),
            "{path}: {error:?}"
        );
        assert_eq!(error.path(), path);
    }
}

#[tokio::test]
async fn many_callers_share_one_role_fetch() {
    let fresh = ROLE.replace("2026-11-01", "2126-11-01");
    let server = Server::start(move |seen, _| {
        if seen.path.ends_with("/node-role") {
            return Act::Answer(200, fresh.clone());
        }
        healthy(seen)
    })
    .await;
    let source = Source::InstanceRole(Arc::new(metadata(&server)));
    let credentials = Arc::new(Credentials::new(vec![source]));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let credentials = Arc::clone(&credentials);
            tokio::spawn(async move { credentials.keys(deadline()).await })
        })
        .collect();
    for caller in callers {
        let keys = caller.await.unwrap().unwrap();
        assert_eq!(keys.id, "STS.example");
        assert!(keys.token.is_some());
    }
    assert_eq!(
        server.count("/latest/meta-data/ram/security-credentials/node-role"),
        1
    );
}

#[tokio::test]
async fn a_node_without_a_role_has_no_source() {
    let server = Server::start(|seen, _| match seen.path.as_str() {
        "/latest/meta-data/ram/security-credentials/" => Act::Answer(404, String::new()),
        _ => healthy(seen),
    })
    .await;
    let source = Source::InstanceRole(Arc::new(metadata(&server)));
    let error = Credentials::new(vec![source])
        .keys(deadline())
        .await
        .unwrap_err();
    assert!(matches!(*error, CredentialError::NoSource), "{error:?}");
}

#[tokio::test]
async fn the_first_configured_source_wins_and_a_broken_one_is_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let files = || Source::Files {
        id: directory.path().join("access-key-id"),
        secret: directory.path().join("access-key-secret"),
    };
    let chain = || vec![files(), Source::Static(Keys::permanent("configured", "s"))];
    let keys = async || Credentials::new(chain()).keys(deadline()).await;
    assert_eq!(
        keys().await.unwrap().id,
        "configured",
        "no files: the next source"
    );

    let write = |name: &str, text: &str| {
        let mut file = std::fs::File::create(directory.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write("access-key-id", "mounted\n");
    let error = keys().await.unwrap_err();
    assert!(
        matches!(*error, CredentialError::File { .. }),
        "half a pair: {error:?}"
    );

    write("access-key-secret", "two words");
    let error = keys().await.unwrap_err();
    assert!(
        matches!(*error, CredentialError::NoKey { .. }),
        "no key: {error:?}"
    );
    assert!(!format!("{error:?} {error}").contains("two words"));

    write("access-key-secret", "secret\n");
    assert_eq!(keys().await.unwrap().id, "mounted");
}
