//! The servers a script is run against: ours, always, and the one whose kubeconfig is named.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use terway_kubesim::{Cluster, http};

use crate::http::send;

/// Names the kubeconfig of a real API server; the tier with a real Kubernetes sets it.
const REAL: &str = "TERWAY_API_SERVER_KUBECONFIG";

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    _keeper: Keeper,
}

enum Keeper {
    Ours(#[expect(dead_code, reason = "serves as long as it is held")] tokio::runtime::Runtime),
    /// `kubectl proxy`, which does the TLS and the certificates.
    Proxy(Child),
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Self::Proxy(child) = self {
            // It may have ended by itself, which the script has noticed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ours first; the real one if there is one.
pub(crate) fn servers() -> Vec<Server> {
    let real = std::env::var(REAL).ok().filter(|path| !path.is_empty());
    [Some(ours()), real.as_deref().map(proxied)]
        .into_iter()
        .flatten()
        .collect()
}

fn ours() -> Server {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    let router = http::router(http::Api::new(Cluster::new(1, now)));
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("address");
    runtime.spawn(async move { axum::serve(listener, router).await });
    Server {
        name: "kubesim",
        address,
        _keeper: Keeper::Ours(runtime),
    }
}

fn proxied(kubeconfig: &str) -> Server {
    let mut child = Command::new("kubectl")
        .args(["--kubeconfig", kubeconfig, "proxy", "--port=0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("stdout");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let address = line
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|at| at.parse().ok());
    Server {
        name: "the real server",
        address: address.unwrap_or_else(|| panic!("kubectl proxy says {line:?}")),
        _keeper: Keeper::Proxy(child),
    }
}

impl Server {
    /// Whether discovery lists a resource, written `apps/v1/daemonsets` or `v1/pods/status`.
    pub(crate) fn has(&self, resource: &str) -> bool {
        let levels = if resource.starts_with("v1/") { 1 } else { 2 };
        let slash = resource.match_indices('/').nth(levels - 1);
        let (version, name) = resource.split_at(slash.expect("VERSION/RESOURCE").0);
        let root = if levels == 1 { "/api" } else { "/apis" };
        let answer = send(self.address, &format!("GET {root}/{version}"), &[], "").finish();
        let list: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let resources = list["resources"].as_array();
        resources.is_some_and(|list| list.iter().any(|each| each["name"] == name[1..]))
    }
}
