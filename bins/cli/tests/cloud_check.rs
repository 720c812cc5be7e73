//! `cloud-check` against the lab's region, over HTTP. The region is also what its shapes are taken from, so
//! this run must find no difference in either direction.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use cloudsim::{CallFault, Fault, Grant, Instance, InstanceSpec, Region, RegionConfig, http};
use model::{ClientToken, EniKind, RegionId, SecurityGroupId, VSwitchId};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::Command,
    time::timeout,
};

/// The check takes a second or two; this is for a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(60);

struct Lab {
    shared: http::Shared,
    openapi: SocketAddr,
    metadata: SocketAddr,
    directory: tempfile::TempDir,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Lab {
    async fn new(adapt: impl FnOnce(&mut RegionConfig)) -> Self {
        let mut config = RegionConfig::lab(5);
        for time in [
            &mut config.timing.attach,
            &mut config.timing.detach,
            &mut config.timing.delete,
        ] {
            *time = Duration::from_millis(50);
        }
        adapt(&mut config);
        let shared = http::Shared::new(Region::new(config).unwrap());
        let instance = instance(&shared);
        let known = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let metadata = http::metadata_router(shared.clone(), move |address| {
            (address == known).then(|| instance.id.clone())
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let metadata_address = listener.local_addr().unwrap();
        let service = metadata.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(axum::serve(listener, service).into_future());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let openapi = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, http::openapi_router(shared.clone())).into_future());
        tokio::spawn(http::drive(shared.clone(), |_| std::future::ready(())));
        let directory = tempfile::tempdir().unwrap();
        let conf = json!({ "version": "1", "access_key": "LTAI5tLabKey", "access_secret": "lab-secret",
            "vswitches": { "cn-hangzhou-h": ["vsw-bp1labh"] }, "security_group": "sg-bp1lab" });
        std::fs::write(directory.path().join("eni_conf"), conf.to_string()).unwrap();
        Self {
            shared,
            openapi,
            metadata: metadata_address,
            directory,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terway-cli"));
        command
            .arg("cloud-check")
            .arg("--config")
            .arg(self.directory.path().join("eni_conf"))
            .arg("--metadata")
            .arg(format!("http://{}", self.metadata))
            .args(arguments)
            .env("ECS_ENDPOINT", format!("http://{}", self.openapi))
            .env("VPC_ENDPOINT", format!("http://{}", self.openapi))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn check(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments)).await
    }

    /// ENIs that are no instance's own.
    fn left(&self) -> usize {
        self.shared.with(|_, region| {
            let enis = region.snapshot().enis;
            enis.iter()
                .filter(|eni| eni.kind != EniKind::Primary)
                .count()
        })
    }
}

async fn ended(mut command: Command) -> Ended {
    let output = timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn instance(shared: &http::Shared) -> Instance {
    let spec = InstanceSpec {
        id: None,
        name: "node".into(),
        instance_type: "ecs.g7.xlarge".into(),
        vswitch: VSwitchId::new("vsw-bp1labh").unwrap(),
        security_groups: Vec::new(),
        ram_role: None,
    };
    shared
        .with(|now, region| region.run_instance(now, spec))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lab_is_like_itself_and_nothing_is_left() {
    let lab = Lab::new(|_| {}).await;
    let records = lab.directory.path().join("records");
    let ended = lab
        .check(&["--yes", "--attach", "--record", records.to_str().unwrap()])
        .await;
    let shapes = read(&records.join("shapes.json"));
    let built_in: Value =
        serde_json::from_str(include_str!("../src/cloud_check/lab.json")).unwrap();
    assert_eq!(
        shapes, built_in,
        "the region answers otherwise than src/cloud_check/lab.json says; if the region is right, \
         put this document there:\n{shapes:#}"
    );
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    assert!(
        ended
            .stdout
            .contains("0 with more, 0 otherwise, 0 not done"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.ends_with("nothing is left behind\n"),
        "{}",
        ended.stdout
    );
    assert_eq!(lab.left(), 0);
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_name_nobody() {
    let lab = Lab::new(|_| {}).await;
    let records = lab.directory.path().join("records");
    lab.check(&["--yes", "--record", records.to_str().unwrap()])
        .await;
    let files: Vec<PathBuf> = std::fs::read_dir(&records)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for name in ["bp1lab", "LTAI5tLabKey", "lab-secret", "172.16.", "10.0."] {
            assert!(
                !text.contains(name),
                "{name} is in {}:\n{text}",
                file.display()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consent_nothing_is_done() {
    let lab = Lab::new(|_| {}).await;
    let ended = lab.check(&[]).await;
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("make one ENI in vsw-bp1labh") && ended.stderr.contains("--yes"));
    let calls = lab.shared.with(|_, region| region.calls().count());
    assert_eq!(calls, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_nothing_behind() {
    let lab = Lab::new(|_| {}).await;
    let fault = Fault::Calls {
        action: Some("CreateNetworkInterface".into()),
        times: 1,
        how: CallFault::LoseAnswer,
    };
    lab.shared.with(|_, region| region.inject(fault));
    let ended = lab.check(&["--yes"]).await;
    assert_ne!(ended.code, 0);
    assert_eq!(lab.left(), 0, "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_may_still_be_going_is_left_alone() {
    let lab = Lab::new(|_| {}).await;
    // Killed without warning as soon as it has made an ENI.
    let mut child = lab.command(&["--yes"]).spawn().unwrap();
    timeout(PATIENCE, async {
        while lab.left() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("an ENI is made");
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    let before = lab.left();
    let ended = lab.check(&["--yes"]).await;
    if before > 0 {
        assert!(
            ended.stdout.contains("may still be going"),
            "{}",
            ended.stdout
        );
        assert_eq!((ended.code, lab.left()), (1, before));
    }
}

/// Makes an ENI as somebody with these tags would.
async fn make(lab: &Lab, number: u32, tags: &[(&str, &str)]) {
    let endpoint = cloud::Endpoint::parse(&lab.openapi.to_string(), cloud::Scheme::Http).unwrap();
    let config = cloud::Config {
        region: RegionId::new("cn-hangzhou").unwrap(),
        ecs: endpoint.clone(),
        vpc: endpoint,
        timeout: PATIENCE,
    };
    let keys = cloud::Keys::permanent("LTAI5tLabKey", "lab-secret");
    let credentials = cloud::Credentials::new(vec![cloud::Source::Static(keys)]);
    let client = cloud::Client::new(config, credentials).unwrap();
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let call = cloud::ecs::CreateNetworkInterface {
        vswitch: VSwitchId::new("vsw-bp1labh").unwrap(),
        security_groups: vec![SecurityGroupId::new("sg-bp1lab").unwrap()],
        primary_address: None,
        secondary_address_count: 0,
        ipv4_prefix_count: 0,
        description: "of somebody".into(),
        tags: tags.iter().map(owned).collect(),
        resource_group: None,
        kind: cloud::ecs::NewEniKind::Secondary,
        delete_on_release: true,
        token: ClientToken::new(format!("test-{number}")).unwrap(),
    };
    client
        .call(&call, cloud::Deadline::within(PATIENCE))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_check_left_is_removed_and_nothing_else_is() {
    let lab = Lab::new(|_| {}).await;
    make(
        &lab,
        1,
        &[
            ("creator", "terway-cloud-check"),
            ("terway-cloud-check", "1000-1"),
        ],
    )
    .await;
    make(&lab, 2, &[("creator", "terway")]).await;
    make(
        &lab,
        3,
        &[("creator", "somebody"), ("terway-cloud-check", "1000-1")],
    )
    .await;
    make(&lab, 4, &[("creator", "terway-cloud-check")]).await;
    assert_eq!(lab.left(), 4);
    let ended = lab.check(&["--yes"]).await;
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    assert!(
        ended.stdout.contains("removed 1 of an earlier check"),
        "{}",
        ended.stdout
    );
    assert_eq!(lab.left(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_differs_is_told() {
    let lab = Lab::new(|_| {}).await;
    let fault = Fault::Calls {
        action: Some("AssignPrivateIpAddresses".into()),
        times: 1,
        how: CallFault::CutAnswer,
    };
    lab.shared.with(|_, region| region.inject(fault));
    let ended = lab.check(&["--yes"]).await;
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(ended.stdout.contains("cannot be read"), "{}", ended.stdout);
    assert_eq!(lab.left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_somebody_ends_it_what_was_made_is_removed() {
    let lab = Lab::new(|_| {}).await;
    let child = lab.command(&["--yes", "--attach"]).spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    timeout(PATIENCE, async {
        while lab.left() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("an ENI is made");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("nothing is left behind"), "{stdout}");
    assert_eq!(lab.left(), 0);
}

/// The actions of the policy that an account's owner is told to attach.
fn granted() -> Vec<String> {
    let policy: Value =
        serde_json::from_str(include_str!("../../../deploy/ram/agent-eniip.json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
    actions
        .map(|action| action.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_enough_and_each_action_that_lacks_is_named() {
    let all = granted();
    let lab = Lab::new(|config| {
        config.keys[0].grant = Grant::Only(all.iter().cloned().collect());
    })
    .await;
    let ended = lab.check(&["--yes", "--attach"]).await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(lab.left(), 0);
    for lacking in &all {
        let rest = all.iter().filter(|action| *action != lacking);
        let grant = Grant::Only(rest.cloned().collect());
        let lab = Lab::new(|config| config.keys[0].grant = grant).await;
        // Some it tries for minutes; what is asked here is that it says so at once.
        let mut check = lab.command(&["--yes", "--attach"]).spawn().unwrap();
        let mut lines = BufReader::new(check.stderr.take().unwrap()).lines();
        let (_, action) = lacking.split_once(':').unwrap();
        let mut said = Vec::new();
        let named = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let named = line.contains(action) && line.contains("Forbidden.RAM");
                said.push(line);
                if named {
                    return true;
                }
            }
            false
        });
        assert_eq!(named.await, Ok(true), "{lacking}: {said:#?}");
    }
}
