//! The HTTP face: both routers, lost answers, and the loop that lets time pass.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use cloudsim::{CallFault, Effect, Fault, Instance, InstanceSpec, Region, RegionConfig, http};
use model::VSwitchId;
use support::{ECS, Lab};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// Everything here takes milliseconds; this is for a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(20);

fn region() -> (http::Shared, Instance) {
    let mut config = RegionConfig::lab(3);
    config.timing.attach = Duration::from_millis(100);
    let shared = http::Shared::new(Region::new(config).unwrap());
    let spec = InstanceSpec {
        id: None,
        name: "node".into(),
        instance_type: "ecs.g7.xlarge".into(),
        vswitch: VSwitchId::new("vsw-bp1labh").unwrap(),
        security_groups: Vec::new(),
        ram_role: None,
    };
    let instance = shared
        .with(|now, region| region.run_instance(now, spec))
        .unwrap();
    (shared, instance)
}

async fn exchange(to: SocketAddr, head: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!("{head}\r\nHost: region\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is one of the answers under test.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(PATIENCE, talk).await.expect("an answer or an end")
}

/// A signed GET at the wall clock's time.
fn get(action: &str, params: &[(&str, &str)]) -> String {
    let mut signer = Lab::new();
    let now = http::wall_clock();
    let seconds = now.as_nanos() / 1_000_000_000;
    let time = utc(seconds);
    let nonce = format!("{action}-{}", now.as_nanos());
    let mut all = vec![
        ("Timestamp", time.as_str()),
        ("SignatureNonce", nonce.as_str()),
    ];
    all.extend(params);
    format!("GET /?{} HTTP/1.1", signer.request(ECS, action, &all).query)
}

/// The civil date of `seconds` since the epoch (Hinnant's `civil_from_days`).
fn utc(seconds: u64) -> String {
    let (days, rest) = (
        i64::try_from(seconds / 86_400).unwrap() + 719_468,
        seconds % 86_400,
    );
    let era = days.div_euclid(146_097);
    let doe = days.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

async fn openapi(shared: &http::Shared) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = http::openapi_router(shared.clone());
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

#[tokio::test]
async fn a_call_over_http_is_answered() {
    let (shared, instance) = region();
    let to = openapi(&shared).await;
    let answer = exchange(
        to,
        &get("DescribeNetworkInterfaces", &[("MaxResults", "500")]),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("application/json") && answer.contains(instance.primary_eni.as_str()));
    let unsigned = exchange(
        to,
        "GET /?Action=DescribeNetworkInterfaces&Version=2014-05-26 HTTP/1.1",
    )
    .await;
    assert!(
        unsigned.starts_with("HTTP/1.1 400") && unsigned.contains("MissingParameter"),
        "{unsigned}"
    );
}

#[tokio::test]
async fn a_lost_answer_is_no_answer() {
    let (shared, _) = region();
    let to = openapi(&shared).await;
    let fault = Fault::Calls {
        action: None,
        times: 1,
        how: CallFault::LoseAnswer,
    };
    shared.with(|_, region| region.inject(fault));
    let look = |_| get("DescribeNetworkInterfaces", &[]);
    assert_eq!(exchange(to, &look(1)).await, "", "not a byte");
    assert!(exchange(to, &look(2)).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn time_passes_and_effects_come_in_order() {
    let (shared, instance) = region();
    let to = openapi(&shared).await;
    let (send, mut effects) = mpsc::unbounded_channel();
    let driver = tokio::spawn(http::drive(shared.clone(), move |effect| {
        // The receiver outlives the driver.
        let _ = send.send(effect);
        std::future::ready(())
    }));
    let create = [
        ("VSwitchId", "vsw-bp1labh"),
        ("SecurityGroupId", "sg-bp1lab"),
    ];
    assert!(
        exchange(to, &get("CreateNetworkInterface", &create))
            .await
            .starts_with("HTTP/1.1 200")
    );
    let enis = shared.with(|_, region| region.snapshot().enis);
    let eni = enis
        .iter()
        .find(|eni| eni.instance.is_none())
        .unwrap()
        .id
        .clone();
    let place = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", instance.id.as_str()),
    ];
    assert!(
        exchange(to, &get("AttachNetworkInterface", &place))
            .await
            .starts_with("HTTP/1.1 200")
    );
    let mut order = Vec::new();
    while order.len() < 4 {
        let effect = timeout(PATIENCE, effects.recv())
            .await
            .expect("four effects")
            .unwrap();
        order.push(match effect {
            Effect::Own { eni, .. } => ("own", eni),
            Effect::Plug { eni, .. } => ("plug", eni),
            other => panic!("unexpected {other:?}"),
        });
    }
    let primary = instance.primary_eni.clone();
    assert_eq!(
        order,
        [
            ("own", primary.clone()),
            ("plug", primary),
            ("own", eni.clone()),
            ("plug", eni)
        ]
    );
    driver.abort();
}

#[tokio::test]
async fn metadata_knows_its_caller_by_address() {
    let (shared, instance) = region();
    let own = instance.id.clone();
    let known = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let router = http::metadata_router(shared.clone(), move |address| {
        (address == known).then(|| own.clone())
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());

    let token = exchange(
        to,
        "PUT /latest/api/token HTTP/1.1\r\nX-aliyun-ecs-metadata-token-ttl-seconds: 21600",
    )
    .await;
    let token = token.rsplit("\r\n").next().unwrap();
    let with = |token: &str| {
        format!(
            "GET /latest/meta-data/instance-id HTTP/1.1\r\nX-aliyun-ecs-metadata-token: {token}"
        )
    };
    let answer = exchange(to, &with(token)).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(instance.id.as_str()),
        "{answer}"
    );
    assert!(
        exchange(to, &with("stale"))
            .await
            .starts_with("HTTP/1.1 401")
    );

    let nobody = http::metadata_router(shared, |_| None);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = listener.local_addr().unwrap();
    let service = nobody.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());
    assert!(
        exchange(to, "GET /latest/meta-data/mac HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 404")
    );
}
