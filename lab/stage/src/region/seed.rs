//! What the region and the cluster hold before anything runs.
//!
//! Only objects that somebody in a real cluster would have made: the account's owner, the person who
//! installs the CNI, and the cloud's controller that describes nodes.

use std::{net::Ipv4Addr, path::Path};

use anyhow::Result;
use cloudsim::{Instance, RegionConfig, VSwitchSpec, instance_type};
use ipnet::Ipv4Net;
use model::{Ipv4Prefix, VSwitchId, ZoneId};
use serde_json::{Value, json};

use super::PoolArgs;
use crate::{
    kubernetes::{self, CONTROL_PLANE, Mode, Settings},
    node::LAB,
    statedir::StateDir,
};

/// The lab's zones, in turns for its nodes.
const ZONES: [char; 2] = ['h', 'i'];
/// RAM role of the nodes; instance metadata shows its credentials.
pub(super) const ROLE: &str = "terway-node";
/// Addresses of Services, outside of every vSwitch.
pub(crate) const SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
/// Pods' addresses in mode VPC, outside of the VPC; a /24 of it for each node.
pub(crate) const POD_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 16);
/// Seed of ids; a fixed one, so that two labs show the same.
pub(super) const SEED: u64 = 1;
/// Pods a node may run (`maxPods`): the cloud's managed clusters offer up to 256 a node.
const PODS_MAX: u32 = 250;

/// cn-hangzhou with two zones. In each a vSwitch for nodes, 252 addresses, and one for pods, 4,092:
/// room for 16 nodes full of pods. The blocks for prefixes are at the end of the latter.
pub(super) fn region(pool: &PoolArgs) -> RegionConfig {
    let mut config = RegionConfig::lab(SEED);
    // The stricter of the two defaults the cloud has, by the age of the account.
    config.source_dest_check = true;
    config.vpc_cidr = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8);
    config.vswitches = (0u8..)
        .zip(ZONES)
        .flat_map(|(at, letter)| {
            let nodes = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, at, 0), 24);
            let pods = Ipv4Net::new_assert(Ipv4Addr::new(10, 1, at * 16, 0), 20);
            [
                vswitch("nodes", letter, nodes, Vec::new()),
                vswitch("pods", letter, pods, blocks(pods, pool.prefixes)),
            ]
        })
        .collect();
    config
}

/// So many prefixes, as single blocks from the end of `cidr` on; its last 16 addresses are the gateway's.
fn blocks(cidr: Ipv4Net, prefixes: Option<u8>) -> Vec<Ipv4Net> {
    let end = u32::from(cidr.broadcast()) + 1;
    let block = |n| Ipv4Addr::from(end - Ipv4Prefix::ADDRESSES * (1 + n));
    let numbers = 1..=u32::from(prefixes.unwrap_or(0));
    numbers
        .map(|n| Ipv4Prefix::around(block(n)).block())
        .collect()
}

fn vswitch(what: &str, letter: char, cidr: Ipv4Net, reserved: Vec<Ipv4Net>) -> VSwitchSpec {
    VSwitchSpec {
        id: vswitch_id(what, letter),
        name: format!("{what}-{letter}"),
        zone: ZoneId::new(format!("cn-hangzhou-{letter}")).expect("a short word is an id"),
        cidr,
        reserved,
    }
}

fn vswitch_id(what: &str, letter: char) -> VSwitchId {
    VSwitchId::new(format!("vsw-bp1lab{what}{letter}")).expect("a short word is an id")
}

/// The vSwitch of the node with this number; with `one_zone` all nodes are in the last one, which no list of
/// vSwitches names first.
pub(super) fn node_vswitch(number: usize, one_zone: bool) -> VSwitchId {
    let zone = if one_zone { ZONES.len() - 1 } else { number };
    vswitch_id("nodes", ZONES[zone % ZONES.len()])
}

/// `kube-system/eni-config`, as the person who installs the CNI writes it.
pub(super) fn eni_config(config: &RegionConfig, pool: &PoolArgs) -> Result<Value> {
    let vswitches: serde_json::Map<String, Value> = config
        .vswitches
        .iter()
        .filter(|vswitch| vswitch.name.starts_with("pods"))
        .map(|vswitch| (vswitch.zone.to_string(), json!([vswitch.id])))
        .collect();
    let eni_conf = json!({
        "version": "1",
        "region_id": config.region,
        "vswitches": vswitches,
        "security_group": config.security_groups.first(),
        "service_cidr": SERVICE_CIDR,
        "ip_stack": "ipv4",
        "max_pool_size": pool.max_pool_size,
        "min_pool_size": pool.min_pool_size,
        "ip_cooldown": pool.ip_cooldown,
        "enable_ip_prefix": pool.prefixes.is_some(),
        "enable_eni_trunking": pool.trunk,
        "cluster_cidr": pool.vpc.then_some(POD_CIDR),
    });
    let conflist = json!({
        "cniVersion": "0.4.0",
        "name": "terway-chainer",
        "plugins": [{ "type": "terway", "capabilities": { "bandwidth": true } }],
    });
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "eni-config", "namespace": "kube-system" },
        "data": {
            "eni_conf": serde_json::to_string_pretty(&eni_conf)?,
            "10-terway.conflist": serde_json::to_string_pretty(&conflist)?,
            "disable_network_policy": "true",
        },
    }))
}

/// `kube-system/terway-controlplane`, where there is a control plane.
pub(super) fn ctrl_config(config: &RegionConfig, pool: &PoolArgs) -> Option<Value> {
    let keys = json!({
        "clusterID": "c-lab", "vpcID": config.vpc, "regionID": config.region,
        "leaderElection": true,
        "healthzBindAddress": "0.0.0.0:9191", "metricsBindAddress": "0.0.0.0:9191",
        "configureCloudRoutes": pool.vpc,
        // Tests wait for it.
        "releaseAfterMin": "1s",
    });
    pool.controlled().then(|| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": CONTROL_PLANE, "namespace": "kube-system" },
            "data": { "ctrl-config.yaml": keys.to_string() },
        })
    })
}

/// Installs the product into the simulated cluster as its documentation says: with `kubectl`. Blocks.
///
/// # Errors
/// With what `kubectl` says.
pub(super) fn install(dir: &StateDir, manifests: &Path, pool: &PoolArgs) -> Result<()> {
    let installation = dir.installation();
    let config = region(pool);
    let settings = Settings {
        eni_config: eni_config(&config, pool)?,
        ctrl_config: ctrl_config(&config, pool),
        mode: Mode::of(pool),
    };
    let kubeconfig = format!("{LAB}/node/kubeconfig");
    kubernetes::write_simulated(&installation, manifests, &settings, &kubeconfig)?;
    let said =
        tokio::task::block_in_place(|| kubernetes::install(&installation, &dir.kubeconfig()))?;
    tracing::info!(said, "the product is installed");
    Ok(())
}

/// The block of the node with this number, as a controller manager with `--allocate-node-cidrs` would give it.
fn pod_cidr(name: &str) -> Option<String> {
    let number: u32 = name.rsplit('-').next()?.parse().ok()?;
    let block = POD_CIDR.subnets(24).ok()?.nth(number as usize)?;
    Some(block.to_string())
}

/// The node of `instance`, not ready until its kubelet says so.
pub(super) fn node(region: &str, instance: &Instance, pool: &PoolArgs) -> Value {
    let Instance {
        id,
        name,
        zone,
        primary_address,
        instance_type: kind,
        ..
    } = instance;
    let (cpu, memory) = instance_type(kind).map_or((0, 0), |kind| (kind.cores, kind.memory_gib));
    let resources = json!({ "cpu": cpu.to_string(), "memory": format!("{memory}Gi"), "pods": PODS_MAX.to_string() });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": kind,
            "topology.kubernetes.io/region": region,
            "topology.kubernetes.io/zone": zone,
        } },
        "spec": {
            "providerID": format!("{region}.{id}"),
            "podCIDR": pod_cidr(name).filter(|_| pool.vpc),
        },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": primary_address },
                { "type": "Hostname", "address": name },
            ],
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{
                "type": "Ready", "status": "False",
                "reason": "KubeletNotReady", "message": "the node has not started",
            }],
        },
    })
}

/// A file for `kubectl` and client libraries; the API server asks nobody who they are.
pub(super) fn kubeconfig(server: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: lab
clusters:
- name: lab
  cluster: {{server: \"{server}\"}}
contexts:
- name: lab
  context: {{cluster: lab, user: lab}}
users:
- name: lab
  user: {{}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_one_and_its_config_map_names_a_pod_vswitch_in_every_zone() {
        let pool = PoolArgs {
            min_pool_size: 2,
            max_pool_size: 5,
            ip_cooldown: "60s".into(),
            prefixes: Some(10),
            vpc: false,
            trunk: true,
        };
        let config = region(&pool);
        config.check().unwrap();
        let map = eni_config(&config, &pool).unwrap();
        let eni_conf: Value =
            serde_json::from_str(map["data"]["eni_conf"].as_str().unwrap()).unwrap();
        for number in 0..ZONES.len() {
            let id = node_vswitch(number, false);
            let nodes = config
                .vswitches
                .iter()
                .find(|vswitch| vswitch.id == id)
                .unwrap();
            let pods = &eni_conf["vswitches"][nodes.zone.as_str()][0];
            assert!(
                pods.as_str().unwrap().starts_with("vsw-bp1labpods"),
                "{eni_conf}"
            );
        }
    }
}
