//! The region's services: in the VPC under the addresses the cloud gives them, for nodes, and on
//! loopback for people. One router each, two listeners.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context, Result};
use axum::Router;
use cloudsim::http::{Shared, metadata_router, openapi_router};
use model::{InstanceId, Mac};
use tokio::task::JoinSet;

use crate::{
    fabric::{Fabric, Port},
    netns, tool,
};

/// Instance metadata.
const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// The ECS and VPC API, inside the VPC.
pub(crate) const OPENAPI: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 10);
/// The Kubernetes API, inside the VPC.
pub(crate) const KUBERNETES: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 20);
/// The Kubernetes API's port there; not 443, because the simulated one speaks HTTP.
pub(crate) const KUBERNETES_PORT: u16 = 6443;
/// Next hop of the services' answers. Nobody has it: the fabric answers ARP for every gateway.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 1);
/// The fabric's name for the services' port.
const PORT: &str = "services";

/// The simulated Kubernetes API as nodes reach it.
pub(crate) fn kubernetes_url() -> String {
    format!("http://{KUBERNETES}:{KUBERNETES_PORT}")
}

/// The services' place in the VPC.
pub(super) struct Services {
    /// The namespace lives as long as this.
    netns: OwnedFd,
}

impl Services {
    /// Makes the place; nobody serves there yet.
    pub(super) fn open(fabric: &Fabric) -> Result<Self> {
        let netns = namespace(fabric)?;
        Ok(Self { netns })
    }

    /// A descriptor of the namespace.
    pub(super) fn netns(&self) -> Result<OwnedFd> {
        self.netns.try_clone().context("cannot copy a descriptor")
    }

    /// Connects from here to programs in the VPC. Blocks.
    pub(super) fn dialer(&self) -> Result<impl Fn(SocketAddr) -> io::Result<TcpStream> + use<>> {
        let netns = self.netns()?;
        Ok(move |address| netns::inside(netns.as_fd(), || TcpStream::connect(address))?)
    }

    /// Serves the cloud's API and instance metadata on `tasks`. Returns where people reach the API.
    pub(super) fn serve_cloud(
        &self,
        cloud: &Shared,
        tasks: &mut JoinSet<()>,
    ) -> Result<SocketAddr> {
        let metadata = metadata_router(cloud.clone(), {
            let cloud = cloud.clone();
            move |caller| instance_at(&cloud, caller)
        });
        serve(self.inside(METADATA, 80)?, metadata, tasks)?;
        self.serve_twice(OPENAPI, 80, openapi_router(cloud.clone()), tasks)
    }

    /// Serves the simulated cluster's API on `tasks`. Returns where people reach it.
    pub(super) fn serve_cluster(
        &self,
        cluster: &kubesim::http::Api,
        tasks: &mut JoinSet<()>,
    ) -> Result<SocketAddr> {
        let router = kubesim::http::router(cluster.clone());
        self.serve_twice(KUBERNETES, KUBERNETES_PORT, router, tasks)
    }

    /// Serves in the VPC and on loopback; returns where on loopback.
    fn serve_twice(
        &self,
        address: Ipv4Addr,
        port: u16,
        router: Router,
        tasks: &mut JoinSet<()>,
    ) -> Result<SocketAddr> {
        serve(self.inside(address, port)?, router.clone(), tasks)?;
        let outside =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let door = outside.local_addr()?;
        serve(outside, router, tasks)?;
        Ok(door)
    }

    fn inside(&self, address: Ipv4Addr, port: u16) -> Result<TcpListener> {
        netns::inside(self.netns.as_fd(), || TcpListener::bind((address, port)))
            .and_then(|listener| listener)
            .with_context(|| format!("cannot listen at {address}:{port} in the VPC"))
    }
}

/// A namespace in the VPC that owns the services' addresses.
fn namespace(fabric: &Fabric) -> Result<OwnedFd> {
    let netns = netns::fresh().context("cannot make the services' network namespace")?;
    let port = Port {
        eni: PORT.into(),
        mac: Mac::locally_administered([0x02, 0, 0, 0, 0, 1]),
        link: "eth0".into(),
        source_dest_check: true,
        groups: Vec::new(),
    };
    fabric.plug(port, netns.try_clone()?)?;
    for address in [METADATA, OPENAPI, KUBERNETES] {
        fabric.own(IpAddr::V4(address), PORT)?;
    }
    let configure = || {
        for address in [METADATA, OPENAPI, KUBERNETES] {
            tool::run(&format!("ip addr add {address}/32 dev eth0"))?;
        }
        tool::run("ip link set lo up")?;
        tool::run("ip link set eth0 up")?;
        tool::run(&format!(
            "ip route add default via {GATEWAY} dev eth0 onlink"
        ))
    };
    netns::inside(netns.as_fd(), configure)??;
    Ok(netns)
}

fn serve(listener: TcpListener, router: Router, tasks: &mut JoinSet<()>) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "a service has ended");
        }
    });
    Ok(())
}

/// Whose primary address this is: metadata answers an instance, whatever its pods are called.
fn instance_at(cloud: &Shared, caller: IpAddr) -> Option<InstanceId> {
    let snapshot = cloud.with(|_, region| region.snapshot());
    let mut instances = snapshot.instances.into_iter();
    let instance = instances.find(|instance| IpAddr::V4(instance.primary_address) == caller);
    instance.map(|instance| instance.id)
}
