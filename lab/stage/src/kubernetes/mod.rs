//! A real Kubernetes in the region: API server, controllers and scheduler beside the cloud's services,
//! containerd, kubelet and kube-proxy on every node, from a directory of programs of any version.
//!
//! It stands where `kubesim` and the kubelet model stand otherwise. It must never know what is
//! installed into it: the product under test comes with its own manifests, or not at all.

mod control_plane;
mod door;
mod flags;
mod install;
mod node;
mod pki;
mod release;
mod site;
mod supervise;

pub(crate) use self::{
    control_plane::{ControlPlaneArgs, run as run_control_plane},
    door::open as open_door,
    flags::api_service,
    install::{Mode, Settings, apply as install, write as write_installation, write_simulated},
    node::{AGENT, CONTROL_PLANE, Node},
    pki::Pki,
    release::Release,
    site::{NodeSite, client, prepare_node, write_kubeconfig},
};
