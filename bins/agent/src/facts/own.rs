//! What a node of mode VPC must know of itself: its podCIDR, and that the cloud lets packets of other
//! addresses than its own pass its ENI. The check that would not is switched off here.

use cloud::{Client, Deadline, Metadata, ecs};
use engine::node::PodBlock;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use model::{EniId, Mac};

use super::{BUDGET, FactsError};

/// The block of the node's pods, and the ENI that carries it.
pub(super) async fn block(
    kube: &kube::Client,
    node: &str,
    metadata: &Metadata,
    primary: Mac,
) -> Result<PodBlock, FactsError> {
    let nodes: Api<Node> = Api::all(kube.clone());
    let found = tokio::time::timeout(BUDGET, nodes.get(node)).await;
    let found = found.map_err(|_| FactsError::NodeLate)?;
    let spec = found.map_err(FactsError::Node)?.spec.unwrap_or_default();
    let several = spec.pod_cidrs.unwrap_or_default().into_iter();
    let mut texts = several.chain(spec.pod_cidr);
    let cidr = texts.find_map(|text| text.parse::<Ipv4Net>().ok());
    let cidr = cidr.ok_or(FactsError::NoPodCidr)?;
    let own = metadata.interface(primary, Deadline::within(BUDGET)).await;
    let own = own.map_err(FactsError::Metadata)?;
    Ok(PodBlock {
        cidr,
        eni: own.eni,
        vswitch: own.vswitch,
    })
}

/// Makes sure that the cloud does not check sources and destinations at `eni`.
pub(super) async fn uncheck(client: &Client, eni: &EniId) -> Result<(), FactsError> {
    if !checks(client, eni).await? {
        return Ok(());
    }
    let call = ecs::ModifyNetworkInterfaceAttribute {
        eni: eni.clone(),
        source_dest_check: false,
    };
    let answer = client.call(&call, Deadline::within(BUDGET)).await;
    answer.map_err(|source| FactsError::SourceDestCheck {
        eni: eni.clone(),
        source: Box::new(source),
    })?;
    tracing::info!(%eni, "SourceDestCheck was on and is off now");
    Ok(())
}

async fn checks(client: &Client, eni: &EniId) -> Result<bool, FactsError> {
    let call = ecs::DescribeNetworkInterfaces {
        ids: vec![eni.clone()],
        ..Default::default()
    };
    let answer = client
        .describe_network_interfaces(&call, Deadline::within(BUDGET))
        .await;
    let found = answer.map_err(|source| FactsError::Unseen {
        eni: eni.clone(),
        source: Some(Box::new(source)),
    })?;
    let own = found.value.into_iter().find(|one| one.eni.id == *eni);
    match own {
        Some(own) => Ok(own.source_dest_check),
        // The cloud may answer a describe it does not permit with an empty list.
        None => Err(FactsError::Unseen {
            eni: eni.clone(),
            source: None,
        }),
    }
}
