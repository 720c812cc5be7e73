//! The region's services: in the VPC under the addresses the cloud gives them, for nodes, and on
//! loopback for people. One router each, two listeners.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
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
const KUBERNETES: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 20);
/// The Kubernetes API's port there; not 443, because it speaks HTTP.
const KUBERNETES_PORT: u16 = 6443;
/// Next hop of the services' answers. Nobody has it: the fabric answers ARP for every gateway.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 1);
/// The fabric's name for the services' port.
const PORT: &str = "services";

/// The Kubernetes API as nodes reach it.
pub(crate) fn kubernetes_url() -> String {
    format!("http://{KUBERNETES}:{KUBERNETES_PORT}")
}

/// Where people reach the services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doors {
    pub(super) kubernetes: SocketAddr,
    pub(super) openapi: SocketAddr,
}

/// Opens every listener and serves it on `tasks`. The returned namespace holds those in the VPC.
pub(super) fn open(
    fabric: &Fabric,
    cloud: &Shared,
    cluster: &kubesim::http::Api,
    tasks: &mut JoinSet<()>,
) -> Result<(Doors, OwnedFd)> {
    let netns = namespace(fabric)?;
    let inside = |address: Ipv4Addr, port: u16| {
        netns::inside(netns.as_fd(), || TcpListener::bind((address, port)))
            .and_then(|listener| listener)
            .with_context(|| format!("cannot listen at {address}:{port} in the VPC"))
    };
    let outside =
        || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback");
    let (kubernetes, openapi) = (outside()?, outside()?);
    let doors = Doors {
        kubernetes: kubernetes.local_addr()?,
        openapi: openapi.local_addr()?,
    };
    let metadata = metadata_router(cloud.clone(), {
        let cloud = cloud.clone();
        move |caller| instance_at(&cloud, caller)
    });
    let (ecs, kube) = (
        openapi_router(cloud.clone()),
        kubesim::http::router(cluster.clone()),
    );
    for (listener, router) in [
        (kubernetes, kube.clone()),
        (inside(KUBERNETES, KUBERNETES_PORT)?, kube),
        (openapi, ecs.clone()),
        (inside(OPENAPI, 80)?, ecs),
        (inside(METADATA, 80)?, metadata),
    ] {
        serve(listener, router, tasks)?;
    }
    Ok((doors, netns))
}

/// A namespace in the VPC that owns the services' addresses.
fn namespace(fabric: &Fabric) -> Result<OwnedFd> {
    let netns = netns::fresh().context("cannot make the services' network namespace")?;
    let port = Port {
        eni: PORT.into(),
        mac: Mac::locally_administered([0x02, 0, 0, 0, 0, 1]),
        link: "eth0".into(),
        source_dest_check: true,
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
