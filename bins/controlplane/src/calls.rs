//! Carries out the calls the machine asks for, one request to the cloud each.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{Answer as CloudAnswer, Client, CloudError, Deadline, ecs, vpc};
use engine::{
    cluster::Listed,
    podeni::{Answer, Call, CreateEni, Fault, NewEni, SeenEni},
    route,
};
use model::{
    DualStack, Eni, EniId, EniKind, EniStatus, Family, FaultClass, VSwitch, VSwitchId, VpcId,
    podeni::{EDITION_TAG, OwnedEni},
};

use crate::{cause::chain, degradation::Brake, election::Lead, metrics::Metrics};

/// What one call may take. The client bounds a single exchange at 20 s; a describe of several pages
/// takes a few.
pub(crate) const CALL_BUDGET: Duration = Duration::from_secs(40);

/// What a list of the whole VPC may take: 100,000 ENIs are 200 pages.
const LIST_BUDGET: Duration = Duration::from_secs(300);

/// The cloud as one cluster sees it.
pub(crate) struct Cloud {
    pub(crate) client: Client,
    pub(crate) vpc: VpcId,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) brake: Brake,
    pub(crate) lead: Lead,
}

impl Cloud {
    /// Makes a call for one pod's ENI.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Fault> {
        self.brake.lets(&call)?;
        self.may_take(&call)?;
        let outcome = match call {
            Call::Create(create) => self.create(*create).await,
            Call::Attach {
                eni,
                instance,
                trunk,
            } => {
                let call = ecs::AttachNetworkInterface {
                    eni,
                    instance,
                    trunk,
                };
                self.done(&call).await
            }
            Call::Detach {
                eni,
                instance,
                trunk,
            } => {
                let call = ecs::DetachNetworkInterface {
                    eni,
                    instance,
                    trunk,
                };
                self.done(&call).await
            }
            Call::Delete(eni) => self.done(&ecs::DeleteNetworkInterface { eni }).await,
            Call::Look(eni) => {
                let seen = self.look(vec![eni.clone()]).await?;
                return Ok(seen
                    .get(&eni)
                    .cloned()
                    .map_or(Answer::Missing, Answer::Seen));
            }
        };
        outcome.map_err(|error| fault(&error))
    }

    /// What the replica that leads by now has given to a pod must not be taken from it by one that was stopped
    /// in between and believes what it knew. Create and attach only repeat what the record says.
    fn may_take(&self, call: &Call) -> Result<(), Fault> {
        match call {
            Call::Detach { .. } | Call::Delete(_) => self.may_lead(),
            _ => Ok(()),
        }
    }

    /// The same for a route entry: what nobody needed may be a node's by now.
    pub(crate) fn may_take_route(&self, call: &route::Call) -> Result<(), Fault> {
        match call {
            route::Call::Delete { .. } => self.may_lead(),
            route::Call::Create { .. } => Ok(()),
        }
    }

    fn may_lead(&self) -> Result<(), Fault> {
        match self.lead.holds() {
            true => Ok(()),
            false => Err(Fault {
                class: FaultClass::Denied,
                text: "held back: this replica may not lead any more".into(),
            }),
        }
    }

    /// Looks at some ENIs: those the answer held.
    pub(crate) async fn look(&self, ids: Vec<EniId>) -> Result<BTreeMap<EniId, SeenEni>, Fault> {
        let call = ecs::DescribeNetworkInterfaces {
            ids,
            ..Default::default()
        };
        let found = self.describe(&call, CALL_BUDGET).await?;
        Ok(found
            .into_iter()
            .map(|one| (one.eni.id.clone(), seen(&one)))
            .collect())
    }

    /// Looks at some vSwitches: those the answers held.
    pub(crate) async fn vswitches(&self, ids: Vec<VSwitchId>) -> Result<Vec<VSwitch>, Fault> {
        let mut found = Vec::new();
        for id in ids {
            let call = vpc::DescribeVSwitches { id };
            found.extend(self.one(&call).await.map_err(|error| fault(&error))?);
        }
        Ok(found)
    }

    /// All ENIs of the VPC that could be one of ours left behind. Not asked for by tag: such a list ends
    /// after 1,000 entries.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, Fault> {
        self.brake.lets_list()?;
        // By id: one that is attached in between is in two answers, and the later one is true.
        let mut all = BTreeMap::new();
        let kinds = [
            (EniKind::Secondary, EniStatus::Available),
            // Whole ENIs of pods, among those of the nodes.
            (EniKind::Secondary, EniStatus::InUse),
            (EniKind::Member, EniStatus::InUse),
        ];
        for (kind, status) in kinds {
            let call = ecs::DescribeNetworkInterfaces {
                vpc: Some(self.vpc.clone()),
                kind: Some(kind),
                status: Some(status),
                ..Default::default()
            };
            let found = self.describe(&call, LIST_BUDGET).await?;
            all.extend(found.into_iter().map(|one| {
                let (id, trunk) = (one.eni.id.clone(), one.trunk);
                let eni = one.eni;
                (id, Listed { eni, trunk })
            }));
        }
        Ok(all.into_values().collect())
    }

    async fn create(&self, create: CreateEni) -> Result<Answer, CloudError> {
        let primary_address = match create.addresses.v4 {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        let edition = create.edition.map(|one| (EDITION_TAG.to_owned(), one));
        let request = ecs::CreateNetworkInterface {
            vswitch: create.vswitch,
            security_groups: create.security_groups,
            primary_address,
            secondary_address_count: 0,
            ipv4_prefix_count: 0,
            description: "interface of Terway".into(),
            tags: self.tags.clone().into_iter().chain(edition).collect(),
            resource_group: create.resource_group,
            kind: ecs::NewEniKind::Secondary,
            delete_on_release: create.delete_on_release,
            token: create.token,
        };
        let eni = self.one(&request).await?;
        Ok(Answer::Created(Box::new(new_eni(eni))))
    }

    async fn done<C: cloud::Call<Output = ()>>(&self, call: &C) -> Result<Answer, CloudError> {
        self.one(call).await.map(|()| Answer::Accepted)
    }

    pub(crate) async fn one<C: cloud::Call>(&self, call: &C) -> Result<C::Output, CloudError> {
        let began = Instant::now();
        let answer = self.client.call(call, Deadline::within(CALL_BUDGET)).await;
        self.tell(C::ACTION, began, answer)
    }

    async fn describe(
        &self,
        call: &ecs::DescribeNetworkInterfaces,
        budget: Duration,
    ) -> Result<Vec<ecs::DescribedEni>, Fault> {
        let began = Instant::now();
        let deadline = Deadline::within(budget);
        let answer = self
            .client
            .describe_network_interfaces(call, deadline)
            .await;
        self.tell("DescribeNetworkInterfaces", began, answer)
            .map_err(|error| fault(&error))
    }

    pub(crate) fn tell<T>(
        &self,
        action: &'static str,
        began: Instant,
        answer: Result<CloudAnswer<T>, CloudError>,
    ) -> Result<T, CloudError> {
        match answer {
            Ok(answer) => {
                self.metrics.cloud(action, began.elapsed(), None);
                let (request_id, ms) = (&answer.request_id, answer.latency.as_millis());
                tracing::info!(action, %request_id, ms, "cloud call");
                Ok(answer.value)
            }
            Err(error) => {
                // Without an answer there is no code; the class says then what is known.
                let class = error.class().to_string();
                let code = error.code().unwrap_or(&class);
                self.metrics.cloud(action, began.elapsed(), Some(code));
                tracing::warn!(action, class, error = %chain(&error), "cloud call");
                Err(error)
            }
        }
    }
}

pub(crate) fn fault(error: &CloudError) -> Fault {
    Fault {
        class: error.class(),
        text: chain(error),
    }
}

fn new_eni(eni: Eni) -> NewEni {
    let primary = eni.primary_address();
    NewEni {
        addresses: match primary {
            Some(address) => DualStack::only(Family::of(address), address),
            None => DualStack::default(),
        },
        eni: OwnedEni {
            id: eni.id,
            mac: eni.mac,
            vpc: eni.vpc,
        },
    }
}

fn seen(one: &ecs::DescribedEni) -> SeenEni {
    let member = one.eni.kind == EniKind::Member;
    SeenEni {
        status: one.eni.status,
        kind: one.eni.kind,
        instance: one.eni.instance.clone(),
        trunk: one.trunk.clone(),
        vlan: one
            .device_index
            .filter(|_| member)
            .and_then(|index| u16::try_from(index).ok())
            .filter(|vlan| *vlan > 0),
    }
}

#[cfg(test)]
pub(crate) mod tests;
