//! The whole program is told to end: beside a simulated API server, with its webhooks and its lease.

#![allow(
    clippy::unwrap_used,
    reason = "what does not hold fails the test; clippy exempts test functions, not their helpers"
)]

use std::{
    fs,
    net::SocketAddr,
    process::ExitStatus,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// What a pod is given (`terminationGracePeriodSeconds` in `deploy/controlplane/deployment.yaml`).
const GRACE: Duration = Duration::from_secs(10);
/// Longer than all of a test: nobody leads because a lease ran out.
const LEASE: Duration = Duration::from_secs(120);
/// Between SIGTERM and the next replica's lead: two requests and one period of theirs; the webhooks, which go on for
/// seconds, are not waited for.
const HANDED_OVER: Duration = Duration::from_secs(2);
/// How long anything may take that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where replicas run that ask the API server at `address`.
struct Site(TempDir);

impl Site {
    fn new(address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "clusterID": "c1", "vpcID": "vpc-1", "regionID": "cn-hangzhou",
            "leaderElection": true, "leaseDuration": format!("{}s", LEASE.as_secs()), "retryPeriod": "100ms",
            "healthzBindAddress": "127.0.0.1:0", "webhookPort": 0,
        });
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        for (name, text) in [("config", config), ("kubeconfig", kubeconfig)] {
            fs::write(dir.path().join(name), text.to_string()).unwrap();
        }
        Self(dir)
    }

    fn start(&self, name: &str) -> Child {
        let file = |name| self.0.path().join(name);
        let mut program = Command::new(env!("CARGO_BIN_EXE_terway-controlplane"));
        program.arg("--config").arg(file("config"));
        program.arg("--credential").arg(file("none"));
        // Nobody there: it makes no call of the cloud before it has a key.
        program.args(["--metadata", "http://127.0.0.1:9", "--name", name]);
        program.env("KUBECONFIG", file("kubeconfig"));
        program.kill_on_drop(true).spawn().unwrap()
    }
}

/// What becomes of it within the time a pod is given after SIGTERM.
async fn told_to_end(program: Child) -> ExitStatus {
    tell(&program).await;
    ended(program).await
}

async fn ended(mut program: Child) -> ExitStatus {
    let ended = timeout(GRACE, program.wait()).await;
    ended.expect("it ends in its time").unwrap()
}

async fn tell(program: &Child) {
    let pid = program.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(told.unwrap().success());
}

/// Waits until `who` leads; how long that took.
async fn leads(leases: &Api<Lease>, who: Option<&str>) -> Duration {
    let began = Instant::now();
    loop {
        let lease = leases.get_opt("terway-controller-lock").await.unwrap();
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        if holder.as_deref() == who {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{holder:?}, not {who:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_end_hands_the_lead_over_and_ends_well() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let cluster = kubesim::http::Api::new(kubesim::Cluster::new(1, now.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, kubesim::http::router(cluster)).await });
    let client = Client::try_from(Config::new(format!("http://{address}").parse().unwrap()));
    let leases = Api::<Lease>::namespaced(client.unwrap(), "kube-system");
    let site = Site::new(address);

    let one = site.start("one");
    leads(&leases, Some("one")).await;
    let two = site.start("two");
    let three = site.start("three");
    // They have asked for the lead and not got it.
    sleep(Duration::from_secs(2)).await;
    leads(&leases, Some("one")).await;
    assert!(told_to_end(three).await.success(), "one that never led");
    tell(&one).await;
    let took = leads(&leases, Some("two")).await;
    println!("handed over in {took:?}");
    assert!(took < HANDED_OVER, "{took:?}");
    assert!(ended(one).await.success(), "one that led");
    assert!(told_to_end(two).await.success(), "the last one");
    leads(&leases, None).await;
}

/// Where the API server does not answer the program is in its beginnings.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_hardly_begun_ends_too() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = Site::new(mute.local_addr().unwrap());
    let program = site.start("early");
    let asks = timeout(PATIENCE, mute.accept()).await.unwrap().unwrap();
    assert!(told_to_end(program).await.success());
    drop(asks);
}
