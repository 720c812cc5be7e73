//! Carries out the calls the node machine asks for, one request to the cloud each.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{Client, CloudError, Deadline, Metadata, ecs, vpc};
use engine::node::{CloudAnswer, CloudCall, CloudFault, Interface};
use ipnet::IpNet;
use model::{DualStack, EniId, Family, FaultClass, InstanceId};

use crate::{cause::chain, metrics::Metrics};

/// What one call may take. The client bounds a single exchange at 20 s; a describe of several pages
/// takes a few.
const CALL_BUDGET: Duration = Duration::from_secs(40);

/// What one reading of the metadata service may take: it is on the node's own host and answers in
/// milliseconds.
const METADATA_BUDGET: Duration = Duration::from_secs(10);

/// The cloud as one node sees it.
pub(crate) struct Cloud {
    pub(crate) client: Client,
    pub(crate) instance: InstanceId,
    pub(crate) resource_group: Option<String>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Cloud {
    /// Makes `call` and says what came of it.
    pub(crate) async fn carry_out(&self, call: CloudCall) -> Result<CloudAnswer, CloudFault> {
        self.call(call).await.map_err(|error| {
            let answer = CloudFault { class: error.class(), text: chain(&error) };
            tracing::warn!(action = error.action(), class = %answer.class, error = %answer.text, "cloud call");
            answer
        })
    }

    async fn call(&self, call: CloudCall) -> Result<CloudAnswer, CloudError> {
        let instance = self.instance.clone();
        match call {
            CloudCall::CreateEni(token, create) => {
                let request = ecs::CreateNetworkInterface {
                    vswitch: create.vswitch,
                    security_groups: create.security_groups,
                    primary_address: None,
                    secondary_address_count: create.address_count.saturating_sub(1),
                    ipv4_prefix_count: create.prefix_count,
                    description: "interface of Terway".into(),
                    tags: create.tags,
                    resource_group: self.resource_group.clone(),
                    kind: match create.trunk {
                        true => ecs::NewEniKind::Trunk,
                        false => ecs::NewEniKind::Secondary,
                    },
                    delete_on_release: true,
                    token,
                };
                self.one(&request).await.map(CloudAnswer::Created)
            }
            CloudCall::AttachEni(eni) => {
                self.done(&ecs::AttachNetworkInterface {
                    eni,
                    instance,
                    trunk: None,
                })
                .await
            }
            CloudCall::DetachEni(eni) => {
                self.done(&ecs::DetachNetworkInterface {
                    eni,
                    instance,
                    trunk: None,
                })
                .await
            }
            CloudCall::DeleteEni(eni) => self.done(&ecs::DeleteNetworkInterface { eni }).await,
            CloudCall::AssignAddresses(token, eni, count) => {
                let request = ecs::AssignPrivateIpAddresses { eni, count, token };
                self.one(&request)
                    .await
                    .map(|answer| CloudAnswer::Assigned(answer.addresses))
            }
            CloudCall::UnassignAddresses(eni, addresses) => {
                self.done(&ecs::UnassignPrivateIpAddresses { eni, addresses })
                    .await
            }
            CloudCall::AssignPrefixes(token, eni, count) => {
                let request = ecs::AssignIpv4Prefixes { eni, count, token };
                self.one(&request)
                    .await
                    .map(|answer| CloudAnswer::AssignedPrefixes(answer.prefixes))
            }
            CloudCall::UnassignPrefixes(eni, prefixes) => {
                self.done(&ecs::UnassignIpv4Prefixes { eni, prefixes })
                    .await
            }
            CloudCall::DescribeNode => {
                self.describe(ecs::DescribeNetworkInterfaces {
                    instance: Some(instance),
                    ..Default::default()
                })
                .await
            }
            CloudCall::DescribeEnis(ids) => {
                self.describe(ecs::DescribeNetworkInterfaces {
                    ids,
                    ..Default::default()
                })
                .await
            }
            CloudCall::FindEni(token) => {
                self.describe(ecs::DescribeNetworkInterfaces {
                    made_under: Some(token),
                    ..Default::default()
                })
                .await
            }
            CloudCall::DescribeVSwitches(ids) => {
                let mut found = Vec::new();
                for id in ids {
                    found.extend(self.one(&vpc::DescribeVSwitches { id }).await?);
                }
                Ok(CloudAnswer::VSwitches(found))
            }
        }
    }

    async fn one<C: cloud::Call>(&self, call: &C) -> Result<C::Output, CloudError> {
        let began = Instant::now();
        let answer = self.client.call(call, Deadline::within(CALL_BUDGET)).await;
        self.measure(C::ACTION, began, answer.as_ref().err());
        let answer = answer?;
        tracing::info!(
            action = C::ACTION,
            request_id = %answer.request_id,
            ms = answer.latency.as_millis(),
            "cloud call"
        );
        Ok(answer.value)
    }

    fn measure(&self, action: &str, began: Instant, error: Option<&CloudError>) {
        // Without an answer there is no code; the class says then what is known.
        let code = error.map(|error| {
            error
                .code()
                .map_or_else(|| error.class().to_string(), str::to_owned)
        });
        self.metrics.cloud(action, began.elapsed(), code.as_deref());
    }

    async fn done<C: cloud::Call<Output = ()>>(&self, call: &C) -> Result<CloudAnswer, CloudError> {
        self.one(call).await.map(|()| CloudAnswer::Accepted)
    }

    async fn describe(
        &self,
        call: ecs::DescribeNetworkInterfaces,
    ) -> Result<CloudAnswer, CloudError> {
        let deadline = Deadline::within(CALL_BUDGET);
        let began = Instant::now();
        let answer = self
            .client
            .describe_network_interfaces(&call, deadline)
            .await;
        self.measure("DescribeNetworkInterfaces", began, answer.as_ref().err());
        let answer = answer?;
        tracing::info!(
            action = "DescribeNetworkInterfaces",
            request_id = %answer.request_id,
            ms = answer.latency.as_millis(),
            "cloud call"
        );
        Ok(CloudAnswer::Enis(
            answer
                .value
                .into_iter()
                .map(|described| described.eni)
                .collect(),
        ))
    }
}

/// Reads what the metadata service shows of the instance's interfaces, except the primary one.
pub(crate) async fn interfaces(metadata: &Metadata) -> Result<Vec<Interface>, String> {
    let deadline = Deadline::within(METADATA_BUDGET);
    let macs = metadata
        .interfaces(deadline)
        .await
        .map_err(|error| chain(&error))?;
    let mut list = Vec::new();
    for mac in macs {
        match metadata.interface(mac, deadline).await {
            Ok(facts) => list.push(interface(facts)),
            // Between the list and the look it was detached, or is not whole yet.
            Err(error) if error.is_absent() => {
                tracing::debug!(%mac, error = %chain(&error), "interface is not whole in metadata");
            }
            Err(error) => return Err(chain(&error)),
        }
    }
    Ok(list)
}

fn interface(facts: cloud::InterfaceFacts) -> Interface {
    let eni: EniId = facts.eni;
    let mut addresses: std::collections::BTreeSet<IpAddr> = facts.addresses.into_iter().collect();
    addresses.insert(facts.primary_address);
    Interface {
        mac: facts.mac,
        eni,
        addresses,
        prefixes: facts.prefixes.map(|list| list.into_iter().collect()),
        gateway: DualStack::only(Family::of(facts.gateway), facts.gateway),
        subnet: DualStack::only(Family::V4, IpNet::V4(facts.vswitch_cidr)),
    }
}

/// A fault for a call that could not even be tried.
pub(crate) fn not_tried(text: impl Into<String>) -> CloudFault {
    CloudFault {
        class: FaultClass::Throttled,
        text: text.into(),
    }
}
