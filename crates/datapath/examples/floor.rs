//! The floor that ADD and DEL are measured against: the same links, addresses, routes and rules as the
//! agent makes, by netlink from one process, with nothing remembered and nobody asked.
//!
//! Takes the environment of a CNI plugin, and the number of the call in FLOOR_NUMBER.

use std::{env, fs::File, net::Ipv4Addr, os::fd::AsFd, thread};

use ipnet::IpNet;
use model::{
    InterfaceName, Mac,
    net::{LinkAddress, Neighbour, PodNet, Route, Rule, TABLE_MAIN, VethPair},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use terway_datapath::{Netlink, Trunk, apply_pod, remove_pod};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let plan = plan(env::var("FLOOR_NUMBER")?.parse()?, &env::var("CNI_IFNAME")?)?;
    let mut host = Netlink::open()?;
    if env::var("CNI_COMMAND")? == "DEL" {
        return Ok(remove_pod(&mut host, &Trunk::default(), &plan)?);
    }
    let namespace = File::open(env::var("CNI_NETNS")?)?;
    let entered = thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<Netlink, Failure> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(Netlink::open()?)
        });
        inside
            .join()
            .map_err(|_| "the thread in the namespace panicked")?
    });
    apply_pod(
        &mut host,
        &Trunk::default(),
        &mut entered?,
        namespace.as_fd(),
        &plan,
    )?;
    Ok(())
}

fn plan(number: u32, pod: &str) -> Result<PodNet, Failure> {
    let pod = InterfaceName::new(pod)?;
    let host = InterfaceName::new(format!("flor{number}"))?;
    // 10.251.0.0/16: nobody else's in the lab.
    let address = IpNet::from(std::net::IpAddr::V4(Ipv4Addr::from(0x0afb_0000 + number)));
    let next_hop = "169.254.1.1".parse()?;
    let [a, b, c, d] = number.to_be_bytes();
    let mac = |end| Mac([2, end, a, b, c, d]);
    let route = |destination, gateway, link: &InterfaceName| Route {
        table: TABLE_MAIN,
        destination,
        gateway,
        link: link.clone(),
        onlink: gateway.is_some(),
    };
    Ok(PodNet {
        pod_addresses: vec![LinkAddress {
            address,
            link: pod.clone(),
        }],
        pod_neighbours: vec![Neighbour {
            address: next_hop,
            mac: mac(1),
            link: pod.clone(),
        }],
        pod_routes: vec![route("0.0.0.0/0".parse()?, Some(next_hop), &pod)],
        host_routes: vec![route(address, None, &host)],
        host_rules: vec![
            Rule::new(512, None, Some(address), TABLE_MAIN),
            Rule::new(2048, Some(address), None, 1003),
        ],
        tags: Vec::new(),
        further: Vec::new(),
        devices: Vec::new(),
        pod_rules: Vec::new(),
        veth: VethPair {
            host,
            host_mac: mac(1),
            pod,
            pod_mac: mac(2),
            mtu: 1500,
            group: 0,
        },
    })
}
