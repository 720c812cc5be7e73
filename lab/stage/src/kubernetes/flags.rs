//! Command lines and configuration of every program, by version: from addresses and files to text.
//!
//! Pure: it starts nothing and reads nothing, so that a new version is a new row in a test.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use serde_json::{Value, json};

use super::{pki::Pki, release::Minor};
use crate::region::{KUBERNETES, KUBERNETES_PORT, SERVICE_CIDR};

/// Where etcd listens: in the services' namespace nobody else does.
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";
/// Addresses of pods and nodes; a packet to a Service from anywhere else is masqueraded.
const CLUSTER_CIDR: &str = "10.0.0.0/12";
/// Who signs tokens of service accounts.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Where a node's containerd listens.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// The image of every pod's first container.
const SANDBOX_IMAGE: &str = "docker.io/terway-rs/probe:v0.1.0";
/// Pods a node may run (`maxPods`): the cloud's managed clusters offer up to 256 a node.
const PODS_MAX: u32 = 250;

/// A command line after the program's name.
pub(super) type Arguments = Vec<String>;

/// The API server's address for whoever is in the VPC.
pub(crate) fn api_server() -> String {
    format!("https://{KUBERNETES}:{KUBERNETES_PORT}")
}

/// The first address of the Services' range, which leads to the API server.
pub(crate) fn api_service() -> Ipv4Addr {
    SERVICE_CIDR
        .hosts()
        .next()
        .unwrap_or(SERVICE_CIDR.network())
}

/// The address that clusters give their DNS by habit, the tenth.
fn cluster_dns() -> Ipv4Addr {
    SERVICE_CIDR
        .hosts()
        .nth(9)
        .unwrap_or(SERVICE_CIDR.network())
}

/// `--name=value` for each.
fn flags<const N: usize>(pairs: [(&str, String); N]) -> Arguments {
    pairs
        .map(|(name, value)| format!("--{name}={value}"))
        .into()
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

pub(super) fn etcd(data: &Path) -> Arguments {
    let mut line = flags([
        ("data-dir", text(data)),
        ("listen-client-urls", ETCD.into()),
        ("advertise-client-urls", ETCD.into()),
        ("listen-peer-urls", ETCD_PEER.into()),
        ("initial-advertise-peer-urls", ETCD_PEER.into()),
        ("initial-cluster", format!("default={ETCD_PEER}")),
        ("log-level", "warn".into()),
    ]);
    // What is lost in a power cut is a lab.
    line.push("--unsafe-no-fsync".into());
    line
}

pub(super) fn api_server_flags(pki: &Pki) -> Arguments {
    let address = KUBERNETES.to_string();
    flags([
        ("etcd-servers", ETCD.into()),
        ("bind-address", address.clone()),
        ("advertise-address", address),
        ("secure-port", KUBERNETES_PORT.to_string()),
        ("service-cluster-ip-range", SERVICE_CIDR.to_string()),
        ("tls-cert-file", text(pki.certificate("apiserver"))),
        ("tls-private-key-file", text(pki.key("apiserver"))),
        ("client-ca-file", text(pki.certificate("ca"))),
        ("service-account-issuer", ISSUER.into()),
        (
            "service-account-key-file",
            text(pki.service_account_public()),
        ),
        ("service-account-signing-key-file", text(pki.key("sa"))),
        ("authorization-mode", "Node,RBAC".into()),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("allow-privileged", "true".into()),
        (
            "kubelet-client-certificate",
            text(pki.certificate("apiserver-kubelet-client")),
        ),
        (
            "kubelet-client-key",
            text(pki.key("apiserver-kubelet-client")),
        ),
        ("kubelet-certificate-authority", text(pki.certificate("ca"))),
        // Names of nodes do not resolve here.
        ("kubelet-preferred-address-types", "InternalIP".into()),
        (
            "requestheader-client-ca-file",
            text(pki.certificate("front-proxy-ca")),
        ),
        ("requestheader-allowed-names", "front-proxy-client".into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
        ("requestheader-group-headers", "X-Remote-Group".into()),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".into(),
        ),
        (
            "proxy-client-cert-file",
            text(pki.certificate("front-proxy-client")),
        ),
        ("proxy-client-key-file", text(pki.key("front-proxy-client"))),
        // Services of webhooks are dialled at their endpoints: no kube-proxy stands beside it.
        ("enable-aggregator-routing", "true".into()),
    ])
}

pub(super) fn controller_manager(minor: Minor, pki: &Pki, kubeconfig: &Path) -> Arguments {
    let mut line = flags([
        ("kubeconfig", text(kubeconfig)),
        ("leader-elect", "false".into()),
        ("use-service-account-credentials", "true".into()),
        ("service-account-private-key-file", text(pki.key("sa"))),
        ("root-ca-file", text(pki.certificate("ca"))),
        ("cluster-signing-cert-file", text(pki.certificate("ca"))),
        ("cluster-signing-key-file", text(pki.key("ca"))),
        ("service-cluster-ip-range", SERVICE_CIDR.to_string()),
        // A VPC's pods have no ranges of their nodes, and that controller begins with 10 s of sleep.
        ("allocate-node-cidrs", "false".into()),
        ("controllers", "*,-nodeipam".into()),
    ]);
    line.extend(closed_port(minor));
    line
}

pub(super) fn scheduler(minor: Minor, kubeconfig: &Path) -> Arguments {
    let mut line = flags([
        ("kubeconfig", text(kubeconfig)),
        ("leader-elect", "false".into()),
    ]);
    line.extend(closed_port(minor));
    line
}

fn closed_port(minor: Minor) -> Option<String> {
    minor.has_insecure_ports().then(|| "--port=0".to_owned())
}

/// A node as its kubelet introduces it.
pub(super) struct Introduction<'a> {
    pub(super) name: &'a str,
    pub(super) address: IpAddr,
    pub(super) region: &'a str,
    pub(super) zone: &'a str,
    pub(super) instance: &'a str,
    pub(super) instance_type: &'a str,
}

/// `files` holds what the region put there for the node.
pub(super) fn kubelet(minor: Minor, node: &Introduction<'_>, files: &Path) -> Arguments {
    let labels = [
        ("topology.kubernetes.io/region", node.region),
        ("topology.kubernetes.io/zone", node.zone),
        ("node.kubernetes.io/instance-type", node.instance_type),
    ];
    let labels = labels.map(|(name, value)| format!("{name}={value}"));
    let mut line = flags([
        ("config", text(files.join("kubelet.json"))),
        ("kubeconfig", text(files.join("kubelet.kubeconfig"))),
        ("hostname-override", node.name.into()),
        ("node-ip", node.address.to_string()),
        ("node-labels", labels.join(",")),
        ("provider-id", format!("{}.{}", node.region, node.instance)),
    ]);
    if minor.has_docker() {
        line.push("--container-runtime=remote".into());
    }
    if !minor.configures_runtime() {
        line.push(format!("--container-runtime-endpoint=unix://{CONTAINERD}"));
    }
    line
}

pub(super) fn kubelet_config(minor: Minor, files: &Path) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": files.join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": files.join("kubelet.crt"),
        "tlsPrivateKeyFile": files.join("kubelet.key"),
        "cgroupDriver": "cgroupfs",
        // Nobody answers there unless somebody installs it; without it every pod comes with a warning.
        "clusterDNS": [cluster_dns()],
        "clusterDomain": "cluster.local",
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": PODS_MAX,
        "nodeStatusUpdateFrequency": "5s",
        // Lowering it takes a capability that a container with root does not have.
        "oomScoreAdj": 0,
        "serializeImagePulls": false,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    });
    if minor.configures_runtime() {
        config["containerRuntimeEndpoint"] = format!("unix://{CONTAINERD}").into();
    }
    if minor.doubts_cgroup_v1() {
        config["failCgroupV1"] = false.into();
    }
    config
}

pub(super) fn kube_proxy(node: &str, files: &Path) -> Arguments {
    flags([
        ("kubeconfig", text(files.join("kube-proxy.kubeconfig"))),
        ("hostname-override", node.into()),
        ("cluster-cidr", CLUSTER_CIDR.into()),
        ("proxy-mode", "iptables".into()),
        // The table's size is one setting for all network namespaces.
        ("conntrack-max-per-core", "0".into()),
        ("oom-score-adj", "0".into()),
    ])
}

/// `config.toml` of a node's containerd, version 1.6 or later.
pub(super) fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX_IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}

/// How a client finds the API server at `server` and who it is there.
pub(super) fn kubeconfig(server: &str, authority: &Path, certificate: &Path, key: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{ "name": "lab", "cluster": { "server": server, "certificate-authority": authority } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        "users": [{ "name": "lab", "user": { "client-certificate": certificate, "client-key": key } }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Introduction<'static> {
        Introduction {
            name: "node-1",
            address: [10, 0, 0, 1].into(),
            region: "cn-hangzhou",
            zone: "cn-hangzhou-h",
            instance: "i-1",
            instance_type: "ecs.g7.large",
        }
    }

    #[test]
    fn what_a_version_has_lost_is_not_asked_of_it() {
        let files = Path::new("/f");
        for (minor, runtime, endpoint, port, configured) in [
            (20, true, true, true, false),
            (23, true, true, true, false),
            (24, false, true, false, false),
            (27, false, false, false, true),
            (33, false, false, false, true),
        ] {
            let minor = Minor::of(minor);
            let kubelet = kubelet(minor, &node(), files);
            let has = |start: &str| kubelet.iter().any(|flag| flag.starts_with(start));
            assert_eq!(has("--container-runtime="), runtime, "{minor:?}");
            assert_eq!(has("--container-runtime-endpoint="), endpoint, "{minor:?}");
            assert_eq!(
                scheduler(minor, files).contains(&"--port=0".to_owned()),
                port,
                "{minor:?}"
            );
            let config = kubelet_config(minor, files);
            assert_eq!(
                config["containerRuntimeEndpoint"].is_string(),
                configured,
                "{minor:?}"
            );
            assert_eq!(
                config["failCgroupV1"].is_null(),
                minor < Minor::of(31),
                "{minor:?}"
            );
        }
    }

    #[test]
    fn a_node_is_introduced_as_the_clouds_controller_would() {
        let line = kubelet(Minor::of(20), &node(), Path::new("/f")).join(" ");
        for part in [
            "--provider-id=cn-hangzhou.i-1",
            "topology.kubernetes.io/zone=cn-hangzhou-h",
            "node.kubernetes.io/instance-type=ecs.g7.large",
            "--node-ip=10.0.0.1",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn the_service_of_the_api_server_is_the_first_of_its_range() {
        assert_eq!(api_service().to_string(), "10.96.0.1");
    }
}
