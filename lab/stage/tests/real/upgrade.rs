//! To the next release and back, by the DaemonSet's rolling update, under traffic and while pods come and go.
//!
//! What is measured is what people would lose: datagrams, connections, what the runtime waits for the address
//! of a pod created meanwhile, and how much later than otherwise that pod starts.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    checks::{IMAGE, address, condition, echoes, name, on},
    rig::{Lab, NODES, POLL_QUICK, level, list, until},
};

/// Images of the product: this release's and the next one's, the same sources under another name.
const RELEASES: [&str; 2] = ["terway-rs/terway:v0.1.0", "terway-rs/terway:v0.1.1"];
/// Pods that are started when nothing else happens, to compare with.
const CALM: usize = 8;
/// How long the traffic runs, a message every 10 ms of each kind; an update is over by then.
const TRAFFIC: Duration = Duration::from_secs(40);
/// What the runtime may wait for the address of a pod that is created during an update, in milliseconds: a
/// bucket of the metric.
const WAIT_MAX_MS: f64 = 1000.0;
/// How much later than otherwise such a pod may start: what its address may take, and one look of kubelet's more
/// at what the runtime does (once a second, `plegRelistPeriod` of pkg/kubelet), which falls where it falls.
const LATE_MAX: Duration = Duration::from_secs(2);

/// Upgrade, and rollback.
pub(crate) fn upgraded(lab: &Lab) {
    for node in NODES {
        load(lab, node);
    }
    let pods = echoes(lab);
    let (from, to) = (name(on(&pods, NODES[0])), on(&pods, NODES[1]));
    let target = format!("{}:8080", address(to));
    let calm: Vec<Duration> = (0..CALM)
        .map(|at| started(lab, &format!("calm-{at}")))
        .collect();
    let usual = calm.iter().max().unwrap();
    println!("  a pod starts in {calm:.1?} when nothing else happens");
    for image in [RELEASES[1], RELEASES[0]] {
        let count = (TRAFFIC.as_millis() / 10).to_string();
        // What is answered late on a busy machine is not lost: that is for good.
        let paced = [
            "--count",
            &count,
            "--interval-ms",
            "10",
            "--timeout-ms",
            "5000",
        ];
        let options = [&[target.as_str()], &paced[..]].concat();
        let streams = ["udp", "tcp"]
            .map(|transport| lab.probe_beside(from, &[&[transport], &options[..]].concat()));
        let (took, starts) = roll(lab, image);
        assert!(took < TRAFFIC, "the update outlasted the traffic: {took:?}");
        let late = starts.iter().max().unwrap().saturating_sub(*usual);
        println!(
            "  to {image} in {took:.1?}: {} pods started meanwhile, the latest {late:.1?} late",
            starts.len()
        );
        println!("  {starts:.1?}");
        for (stream, what) in streams
            .into_iter()
            .zip(["datagrams", "messages on one connection"])
        {
            let output = stream.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("  {what}: {}", said.trim());
            assert!(
                output.status.success() && said.contains("\"lost\":0"),
                "{what}: {output:?}"
            );
        }
        assert!(late <= LATE_MAX, "{late:?} more than {usual:?}");
        let waits = NODES.map(|node| waits(lab, node));
        println!("  added by the new agents, and of these within {WAIT_MAX_MS} ms: {waits:?}");
        assert!(waits.iter().map(|(all, _)| all).sum::<u64>() > 0);
        assert!(waits.iter().all(|(all, within)| all == within), "{waits:?}");
    }
}

/// Loads the next release's archive on a node, as a registry would have brought it.
fn load(lab: &Lab, node: &str) {
    let programs = std::env::var(crate::KUBERNETES).unwrap();
    let images = Path::new(env!("CARGO_BIN_EXE_terway-lab")).with_file_name("../images");
    let (ctr, archive) = (format!("{programs}/ctr"), images.join("next/terway.tar"));
    let pid = &lab.node(node)["pid"];
    let containerd = format!("--address=/proc/{pid}/root/run/containerd/containerd.sock");
    let into = "--namespace=k8s.io";
    let import = [
        &ctr,
        &containerd,
        into,
        "images",
        "import",
        archive.to_str().unwrap(),
    ];
    lab.command_on(node, &import);
}

/// Says at its end that nothing more is to be started.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Updates to `image` while one pod after the other is started; how long the update took, and each pod.
fn roll(lab: &Lab, image: &str) -> (Duration, Vec<Duration>) {
    let done = AtomicBool::new(false);
    let release = image.rsplit(":v").next().unwrap();
    thread::scope(|scope| {
        let pods = scope.spawn(|| {
            let mut starts = Vec::new();
            while !done.load(Ordering::Relaxed) {
                starts.push(started(lab, &format!("churn-{}", starts.len())));
            }
            starts
        });
        // Also when a check fails: the scope waits for the thread.
        let ends = Ends(&done);
        let began = Instant::now();
        let both = ["install", "terway"].map(|container| format!("{container}={image}"));
        lab.kubectl(&[
            "-n",
            "kube-system",
            "set",
            "image",
            "daemonset/terway",
            &both[0],
            &both[1],
        ]);
        until("every node's agent is of the release", || {
            let pods = lab.get(&["pods", "--namespace=kube-system", "--selector=app=terway"]);
            let serving = pods.iter().filter(|pod| {
                let image_of = |container: &Value| container["image"] == image;
                list(&pod["spec"]["containers"]).all(image_of)
                    && condition(pod, "Ready")["status"] == "True"
            });
            level(
                serving.count() == NODES.len() && pods.len() == NODES.len(),
                pods.len(),
            )
        });
        let took = began.elapsed();
        for node in NODES {
            let card = lab.node(node)["pool"]["agent"]["version"].clone();
            assert_eq!(card, release, "{node}");
        }
        drop(ends);
        (took, pods.join().unwrap())
    })
}

/// How many pods the agent of a node gave an address since it started or failed to, and to how many the
/// runtime waited at most [`WAIT_MAX_MS`]. Who started before the agent has waited for it, too.
fn waits(lab: &Lab, node: &str) -> (u64, u64) {
    let text = lab.kubectl(&[
        "get",
        "--raw",
        &format!("/api/v1/nodes/{node}:9190/proxy/metrics"),
    ]);
    let sum = |sample: &str, label: &str| -> u64 {
        let of_adds = text.lines().filter(|line| {
            line.starts_with(&format!("terway_plugin_latency_{sample}{{"))
                && line.contains("rpc_api=\"add\"")
                && line.contains(label)
        });
        let values = of_adds.filter_map(|line| line.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    };
    let within = format!("le=\"{WAIT_MAX_MS:.1}\"");
    (sum("count", ""), sum("bucket", &within))
}

/// How long a pod takes from its creation until it runs; it is deleted then.
fn started(lab: &Lab, name: &str) -> Duration {
    // On the nodes in turns, by its number.
    let node = NODES[name.bytes().map(usize::from).sum::<usize>() % NODES.len()];
    let began = Instant::now();
    lab.apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "churn": "yes" } },
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": IMAGE, "args": ["serve"] }],
        },
    }));
    loop {
        let ready = condition(&lab.get(&["pod", name])[0], "Ready");
        if ready["status"] == "True" {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{name}: {ready}"
        );
        thread::sleep(POLL_QUICK);
    }
    let took = began.elapsed();
    lab.kubectl(&["delete", "pod", name, "--wait=false"]);
    took
}
