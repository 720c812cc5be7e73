//! The part of a real cluster's endpoints controller that the control plane needs: the API server finds
//! its webhooks by the Service's Endpoints.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use kubesim::{ListQuery, http::Api};
use serde_json::{Value, json};

use crate::kubernetes::CONTROL_PLANE;

/// Puts `addresses` behind every Service of the control plane.
///
/// # Errors
/// When the cluster refuses them.
pub(super) fn publish(cluster: &Api, addresses: &[Ipv4Addr]) -> Result<()> {
    let services = cluster.read(|cluster| {
        let resource = cluster.find("", "v1", "services")?;
        Some(cluster.list(resource, "", &ListQuery::default()))
    });
    let services = services.context("the cluster serves no services")??;
    let ours = |service: &&Arc<Value>| service["spec"]["selector"]["app"] == CONTROL_PLANE;
    for service in services.items.iter().filter(ours) {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports = ports.map(|port| {
            let number = port.get("targetPort").unwrap_or(&port["port"]);
            json!({ "name": port["name"], "port": number })
        });
        let ips = addresses.iter().map(|ip| json!({ "ip": ip }));
        cluster.create_object(json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"] },
            "subsets": [{ "addresses": ips.collect::<Vec<_>>(), "ports": ports.collect::<Vec<_>>() }],
        }))?;
    }
    Ok(())
}
