//! The parsers, each with inputs that it takes.

use std::{collections::BTreeMap, fs, path::Path};

use cloud::{
    Call, Endpoint, Keys, Scheme, ecs,
    metadata::{InterfaceAnswers, macs},
    rpc, vpc,
};
use cloudsim::{ApiRequest, InstanceSpec, MetadataRequest, Region, RegionConfig};
use crd::{
    PodEni,
    pod::{Networks, write_networks},
};
use engine::{
    ledger::{Entry, Ledger},
    recording,
};
use model::{
    ClientToken, EniId, RegionId, SecurityGroupId, Timestamp, VSwitchId, podeni::PodEni as Record,
};
use serde::{Serialize, de::DeserializeOwned};
use wire::{
    cni::{Environment, NetConf},
    message::{Reply, Request},
    tombstone::Tombstone,
};

/// A parser at a border.
pub struct Target {
    /// What it is called, on the command line and under `corpus`.
    pub name: &'static str,
    /// Parses; panics when what must hold does not.
    pub run: fn(&[u8]),
    /// Inputs it takes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    target("request", json::<Request>, requests),
    target("reply", json::<Reply>, replies),
    target("cni-config", cni_config, cni_configs),
    target("cni-environment", cni_environment, cni_environments),
    target("tombstone", json::<Tombstone>, tombstones),
    target("ledger", ledger, ledgers),
    target("recording", replay, ledgers),
    target("cloud-answers", cloud_answers, answers),
    target("metadata", metadata, interfaces),
    target("signature", signature, texts),
    target("region", region, calls),
    target("pod-networks", pod_networks, annotations),
    target("podeni", podeni, podenis),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What is read is the same when it is written and read again.
fn json<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again = serde_json::from_slice::<T>(&written).expect("what was written can be read");
    assert_eq!(read, again);
}

fn requests() -> Vec<Vec<u8>> {
    lines(&[
        r#"{"contract":1,"started":1795385160000000000,"patience":{"secs":90,"nanos":0},"verb":"Status"}"#,
        r#"{"contract":1,"started":7,"patience":{"secs":1,"nanos":999999999},"verb":{"Add":{"key":{"container":"c1","interface":"eth0"},"pod":{"namespace":"default","name":"web-0"},"uid":"8d3f","netns":"/run/netns/x","mtu":1400,"runtime":{"ingress_rate":1,"egress_rate":2}}}}"#,
        r#"{"contract":1,"started":7,"patience":{"secs":1,"nanos":0},"verb":{"Gc":{"valid":[{"container":"c1","interface":"eth0"}]}}}"#,
        r#"{"contract":1,"started":7,"patience":{"secs":1,"nanos":0},"verb":{"Explain":{"pod":{"namespace":"a","name":"b"}}}}"#,
    ])
}

fn replies() -> Vec<Vec<u8>> {
    lines(&[
        r#""Done""#,
        r#"{"View":{"idle":2,"enis":[{"id":"eni-1","addresses":{"10.0.0.1":"idle"}}]}}"#,
        r#"{"Failed":{"code":11,"message":"no address","details":"vsw-1 is full"}}"#,
        r#"{"Attached":{"result":{"ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.253","interface":1}],"interfaces":[{"name":"cali1","mac":"00:16:3e:00:00:01","sandbox":null}]},"sysctls":[]}}"#,
    ])
}

fn cni_config(bytes: &[u8]) {
    // Refused or taken; what is refused has a document in every version.
    if let Err(error) = NetConf::parse(bytes) {
        for version in ["0.3.0", "1.1.0", ""] {
            let document = error.document(version);
            serde_json::from_str::<serde_json::Value>(&document).expect("an error is JSON");
        }
    }
}

fn cni_configs() -> Vec<Vec<u8>> {
    lines(&[
        r#"{"cniVersion":"1.1.0","name":"terway-chainer","type":"terway"}"#,
        r#"{"cniVersion":"0.3.1","name":"terway","type":"terway","mtu":1500,"runtimeConfig":{"bandwidth":{"ingressRate":1000,"ingressBurst":1,"egressRate":2000,"egressBurst":1},"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp"}]},"prevResult":{"cniVersion":"0.3.1","ips":[]}}"#,
        r#"{"cniVersion":"1.1.0","name":"terway","type":"terway","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}"#,
    ])
}

/// `NAME=value` a line.
fn cni_environment(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let all: BTreeMap<&str, &str> = pairs.collect();
    let _ = Environment::parse(|name| all.get(name).map(|value| (*value).to_owned()));
}

fn cni_environments() -> Vec<Vec<u8>> {
    lines(&[
        "CNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_NETNS=/run/netns/x\nCNI_IFNAME=eth0\nCNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=8d3f\nCNI_PATH=/opt/cni/bin",
        "CNI_COMMAND=DEL\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0",
        "CNI_COMMAND=GC\nCNI_PATH=/opt/cni/bin",
        "CNI_COMMAND=VERSION",
    ])
}

fn tombstones() -> Vec<Vec<u8>> {
    lines(&[r#"{"key":{"container":"c1","interface":"eth0"},"deleted":1795385160000000000}"#])
}

/// A row a line. What makes a ledger makes the same ledger from its own rows.
fn ledger(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let rows: Result<Vec<Entry>, _> = text.lines().map(serde_json::from_str).collect();
    let Ok(rows) = rows else { return };
    let Ok(ledger) = Ledger::restore(rows) else {
        return;
    };
    let again = Ledger::restore(ledger.entries().collect()).expect("its own rows do not conflict");
    assert_eq!(ledger, again);
}

fn ledgers() -> Vec<Vec<u8>> {
    let rows = fs::read_to_string(repository("bins/agent/src/store/tests/format-1.jsonl"));
    let rows = rows.expect("the rows of the first release");
    let values = rows
        .lines()
        .filter_map(|line| Some(line.split_once('\t')?.1));
    vec![values.collect::<Vec<_>>().join("\n").into_bytes()]
}

fn replay(bytes: &[u8]) {
    let _ = recording::replay(&String::from_utf8_lossy(bytes), |_, _| {});
}

/// Every decoder is given every answer.
fn cloud_answers(body: &[u8]) {
    let eni = || EniId::new("eni-1").expect("an id");
    let token = || ClientToken::new("t").expect("a token");
    let vswitch = || VSwitchId::new("vsw-1").expect("an id");
    let create = ecs::CreateNetworkInterface {
        vswitch: vswitch(),
        security_groups: vec![SecurityGroupId::new("sg-1").expect("an id")],
        primary_address: None,
        secondary_address_count: 1,
        ipv4_prefix_count: 0,
        description: "fuzz".into(),
        tags: BTreeMap::new(),
        resource_group: None,
        kind: ecs::NewEniKind::Secondary,
        delete_on_release: true,
        token: token(),
    };
    let _ = create.decode(body);
    let assign = ecs::AssignPrivateIpAddresses {
        eni: eni(),
        count: 2,
        token: token(),
    };
    let _ = assign.decode(body);
    let _ = ecs::DescribeNetworkInterfaces::default().decode(body);
    let _ = ecs::DeleteNetworkInterface { eni: eni() }.decode(body);
    let types = vec!["ecs.g7.xlarge".into()];
    let _ = ecs::DescribeInstanceTypes { types }.decode(body);
    let _ = vpc::DescribeVSwitches { id: vswitch() }.decode(body);
}

fn answers() -> Vec<Vec<u8>> {
    let files = fs::read_dir(repository("fixtures/cloud/responses"));
    let mut paths: Vec<_> = files
        .expect("the fixtures")
        .filter_map(|file| Some(file.ok()?.path()))
        .collect();
    paths.sort();
    let read = |path| fs::read(path).expect("a fixture");
    paths.iter().map(read).collect()
}

/// The list of interfaces, then what each path holds about one: all of them, a line each.
fn metadata(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = macs(&text);
    let mut lines = text.lines().map(str::to_owned);
    let list = lines.next().unwrap_or_default();
    let mut answer = || lines.next().unwrap_or_default();
    let answers = InterfaceAnswers {
        eni: answer(),
        primary_address: answer(),
        gateway: answer(),
        addresses: answer(),
        prefixes: Some(answer()).filter(|text| text != "-"),
        vswitch: answer(),
        vswitch_cidr: answer(),
    };
    let Some(mac) = macs(&list).ok().and_then(|macs| macs.first().copied()) else {
        return;
    };
    if let Ok(facts) = answers.decode(mac) {
        assert!(facts.addresses.contains(&facts.primary_address));
        let plain = |text: &str| !text.contains(char::is_whitespace) && !text.contains('<');
        assert!(plain(facts.eni.as_str()) && plain(facts.vswitch.as_str()));
    }
}

fn interfaces() -> Vec<Vec<u8>> {
    let tail = "vsw-bp1lab\n10.0.0.0/24\n";
    let head = "00:16:3e:00:00:01/\neni-bp1lab/\n10.0.0.7\n10.0.0.253\n";
    let lists = [
        "[\"10.0.0.7\",\"10.0.0.8\"]\n[\"10.0.0.16/28\"]",
        "[\"10.0.0.7\"]\n[10.0.0.16/28, 10.0.0.32/28]",
        "[\"10.0.0.7\"]\n-",
    ];
    let whole = lists.map(|lists| format!("{head}{lists}\n{tail}").into_bytes());
    whole.into()
}

const NOW: Timestamp = Timestamp::from_nanos(1_795_385_160_000_000_000);

fn lab() -> Region {
    Region::new(RegionConfig::lab(1)).expect("the lab's region")
}

fn handle(region: &mut Region, query: String, body: Vec<u8>) -> String {
    let form = "application/x-www-form-urlencoded".to_owned();
    let request = ApiRequest {
        method: "POST".into(),
        query,
        headers: BTreeMap::from([("content-type".into(), form)]),
        body,
    };
    region.handle(NOW, &request).body
}

/// What the client signs the region verifies, whatever the parameters are: `name=value` a line.
fn signature(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut params = rpc::Params::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        params.set(format!("X{name}"), value);
    }
    let endpoint = Endpoint::parse("127.0.0.1:1", Scheme::Http).expect("an endpoint");
    let request = rpc::request(
        &endpoint,
        rpc::Product::Ecs,
        "DescribeNetworkInterfaces",
        &RegionId::new("cn-hangzhou").expect("a region"),
        params,
        &Keys::permanent("LTAI5tLabKey", "lab-secret"),
        rpc::Stamp {
            timestamp: "2026-11-22T22:06:00Z",
            nonce: "n",
        },
    );
    let body = request.into_body().into_bytes().to_vec();
    let answer = handle(&mut lab(), String::new(), body);
    assert!(answer.contains("NetworkInterfaceSets"), "{answer}");
}

fn texts() -> Vec<Vec<u8>> {
    lines(&["Name=value\nTag.1.Key=a b+c%2F*~\nTag.1.Value=\u{e9}\u{1f642}&=?/"])
}

/// Raw calls without a good signature, and metadata at any path.
fn region(bytes: &[u8]) {
    let mut region = lab();
    let text = String::from_utf8_lossy(bytes).into_owned();
    let _ = handle(&mut region, text.clone(), bytes.to_vec());
    let spec = InstanceSpec {
        id: None,
        name: "node".into(),
        instance_type: "ecs.g7.xlarge".into(),
        vswitch: region.config().vswitches[0].id.clone(),
        security_groups: region.config().security_groups.clone(),
        ram_role: Some("terway-node".into()),
    };
    let instance = region.run_instance(NOW, spec).expect("the lab has room");
    let _ = region.metadata(NOW, &instance.id, &MetadataRequest::get(text));
}

fn calls() -> Vec<Vec<u8>> {
    lines(&[
        "AccessKeyId=LTAI5tLabKey&Action=DescribeNetworkInterfaces&Format=JSON&NetworkInterfaceId.1=eni-1&RegionId=cn-hangzhou&Signature=x%3D&SignatureMethod=HMAC-SHA1&SignatureNonce=n&SignatureVersion=1.0&Timestamp=2026-11-22T22%3A06%3A00Z&Version=2014-05-26",
        "/latest/meta-data/network/interfaces/macs/00:16:3e:00:00:01/private-ipv4s",
    ])
}

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The annotations by which a pod asks for networks. What is read is the same when it is written and read.
fn pod_networks(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = |key: &str, text: String| Networks::read(Some(&[(key.to_owned(), text)].into()));
    let _ = read(crd::keys::POD_NETWORKS_REQUEST, text.to_string());
    let Ok(networks) = read(crd::keys::POD_NETWORKS, text.into()) else {
        return;
    };
    if !networks.full.is_empty() {
        let again = read(crd::keys::POD_NETWORKS, write_networks(&networks.full));
        assert_eq!(again.expect("what was written can be read"), networks);
    }
}

fn annotations() -> Vec<Vec<u8>> {
    lines(&[
        r#"{"podNetworks":[{"vSwitchOptions":["vsw-1"],"securityGroupIDs":["sg-1"],"interface":"eth0","extraRoutes":[{"dst":"10.1.0.0/16"}],"eniOptions":{"eniType":"Trunk"},"vSwitchSelectOptions":{"vSwitchSelectionPolicy":"most"},"resourceGroupID":"rg-1","defaultRoute":true,"allocationType":{"type":"Fixed","releaseStrategy":"TTL","releaseAfter":"1h5m0s"}}]}"#,
        r#"[{"interfaceName":"eth1","network":"extra","defaultRoute":true,"routes":[{"dst":"fd00::/64"}]}]"#,
    ])
}

/// A record that was written once says what it said, and needs no other write.
fn podeni(bytes: &[u8]) {
    let Ok(stored) = serde_json::from_slice::<PodEni>(bytes) else {
        return;
    };
    let Ok(record) = Record::try_from(&stored) else {
        return;
    };
    let halves = stored.halves(&record);
    let mut written = halves.spec.unwrap_or(stored);
    written.status = halves.status.map_or(written.status, |status| status.status);
    let again = Record::try_from(&written).expect("what was written can be read");
    let whole = written.halves(&again);
    assert_eq!((whole.spec, whole.status), (None, None));
    assert_eq!(again.allocations, record.allocations);
}

fn podenis() -> Vec<Vec<u8>> {
    lines(&[
        r#"{"apiVersion":"network.alibabacloud.com/v1beta1","kind":"PodENI","metadata":{"name":"web-0","namespace":"default","uid":"0a1b","resourceVersion":"41","annotations":{"k8s.aliyun.com/pod-uid":"8d3f","network.alibabacloud.com/eni-attempts":"{\"eth0\":2}"},"labels":{"k8s.aliyun.com/node":"n1"},"finalizers":["pod-eni"]},"spec":{"allocations":[{"allocationType":{"type":"Fixed","releaseStrategy":"TTL","releaseAfter":"5m"},"eni":{"id":"eni-1","vpcID":"vpc-1","mac":"00:16:3E:10:34:65","zone":"z-i","vSwitchID":"vsw-1","securityGroupIDs":["sg-1"],"attachmentOptions":{"trunk":true}},"ipv4":"10.0.0.7","ipv4CIDR":"10.0.0.0/20","ipv6":"fd00::7","interface":"","extraRoutes":[{"dst":"10.9.0.0/16"}],"extraConfig":{"a":"1"}}],"zone":"z-i"},"status":{"phase":"Bind","instanceID":"i-1","trunkENIID":"eni-2","msg":"","podLastSeen":"2021-07-12T08:21:16.5Z","eniInfos":{"eni-1":{"id":"eni-1","type":"Member","vid":17,"status":"Bind","vfID":3}}}}"#,
    ])
}
