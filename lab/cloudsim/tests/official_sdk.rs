//! The official Python SDK against the region's HTTP face.
//!
//! Client and region of this project could share a misreading of the cloud; this client can't. It
//! needs python3 with its venv module and a package index, and fails with a sentence without them.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cloudsim::{InstanceSpec, MetadataRequest, Region, RegionConfig, http};
use model::{InstanceId, VSwitchId};
use serde_json::Value;
use tokio::{process::Command, sync::Mutex};

const REQUIREMENTS: &str = include_str!("sdk/requirements.txt");
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/sdk/create_describe_delete.py"
);
const SHAPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/golden_shapes.py");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
/// Two signatures, twice a life of about 20 calls of 20 ms each and imports of a few seconds: ten
/// times that on a busy machine.
const SCRIPT_LIMIT: Duration = Duration::from_secs(180);
/// About 30 small packages from an index.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

async fn run(what: &str, limit: Duration, command: &mut Command) -> String {
    let output = tokio::time::timeout(limit, command.kill_on_drop(true).output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{what}: no end within {limit:?}"))
        .unwrap_or_else(|error| {
            panic!("{what}: {error}. This test needs python3 and python3-venv installed.")
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{what}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

/// A virtual environment with the SDK, made once for each version of the requirements.
async fn python() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _making = ONE_AT_A_TIME.lock().await;
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("official-sdk");
    let (python, stamp) = (home.join("bin/python"), home.join("requirements.installed"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return python;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&home);
    run("python3 -m venv", INSTALL_LIMIT, &mut venv).await;
    let list = home.join("requirements.txt");
    fs::write(&list, REQUIREMENTS).unwrap();
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ])
    .arg(&list);
    run("pip install of the official SDK", INSTALL_LIMIT, &mut pip).await;
    fs::write(&stamp, REQUIREMENTS).unwrap();
    python
}

/// The golden answers of this package against the SDK's generated models: a member that the models
/// don't know, or nest elsewhere, is one that no client would ever read.
#[tokio::test]
async fn the_official_models_read_every_member_of_the_golden_answers() {
    let python = python().await;
    let mut script = Command::new(python);
    script.arg(SHAPES).arg(GOLDEN);
    run("the official models", SCRIPT_LIMIT, &mut script).await;
}

fn role_credential(shared: &http::Shared, instance: &InstanceId) -> [String; 3] {
    let request = MetadataRequest::get("/latest/meta-data/ram/security-credentials/terway-node");
    let answer = shared.with(|now, region| region.metadata(now, instance, &request));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    ["AccessKeyId", "AccessKeySecret", "SecurityToken"]
        .map(|name| body[name].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_creates_describes_and_deletes_an_eni() {
    let python = python().await;
    let mut config = RegionConfig::lab(11);
    config.timing.attach = Duration::from_millis(200);
    config.timing.detach = Duration::from_millis(200);
    let shared = http::Shared::new(Region::new(config).unwrap());
    let spec = InstanceSpec {
        id: None,
        name: "node".into(),
        instance_type: "ecs.g7.xlarge".into(),
        vswitch: VSwitchId::new("vsw-bp1labh").unwrap(),
        security_groups: Vec::new(),
        ram_role: Some("terway-node".into()),
    };
    let instance = shared
        .with(|now, region| region.run_instance(now, spec))
        .unwrap()
        .id;
    let sts = role_credential(&shared, &instance);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server =
        tokio::spawn(axum::serve(listener, http::openapi_router(shared.clone())).into_future());
    let driver = tokio::spawn(http::drive(shared.clone(), |_| std::future::ready(())));

    let mut script = Command::new(python);
    script
        .arg(SCRIPT)
        .args([&endpoint, instance.as_str(), "LTAI5tLabKey", "lab-secret"])
        .args(sts);
    for proxy in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        script.env_remove(proxy);
    }
    let said = run("the official SDK", SCRIPT_LIMIT, &mut script).await;
    assert!(
        said.matches("ok: delete: gone").count() == 4,
        "every life ends: {said}"
    );
    let left = shared.with(|_, region| region.snapshot().enis.len());
    assert_eq!(left, 1, "only the instance's primary ENI is left");
    driver.abort();
    server.abort();
}
