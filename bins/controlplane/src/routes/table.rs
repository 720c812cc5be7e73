//! The cluster's route table in the cloud: found once, then read and changed.

use std::{sync::Arc, time::Instant};

use cloud::{Deadline, vpc};
use engine::{podeni::Fault, route::Call};
use model::{FaultClass, RouteEntry, RouteTableId};
use tokio::sync::OnceCell;

use crate::calls::{CALL_BUDGET, Cloud, fault};

/// One route table.
pub(crate) struct Table {
    pub(crate) cloud: Arc<Cloud>,
    /// `RouteEntryName` of our entries.
    pub(crate) name: String,
    /// Its id: configured, or found at the first look.
    pub(crate) id: OnceCell<RouteTableId>,
}

impl Table {
    /// All its custom entries.
    pub(super) async fn look(&self) -> Result<Vec<RouteEntry>, Fault> {
        let id = self.id.get_or_try_init(|| self.find()).await?;
        let began = Instant::now();
        let deadline = Deadline::within(CALL_BUDGET);
        let answer = self.cloud.client.describe_route_entries(id, deadline).await;
        let told = self.cloud.tell("DescribeRouteEntryList", began, answer);
        told.map_err(|error| fault(&error))
    }

    /// Makes or deletes an entry.
    pub(super) async fn change(&self, call: Call) -> Result<(), Fault> {
        self.cloud.brake.lets_route(&call)?;
        self.cloud.may_take_route(&call)?;
        let outcome = match call {
            Call::Create {
                node,
                destination,
                instance,
                token,
            } => {
                let table = self.id.get_or_try_init(|| self.find()).await?.clone();
                let request = vpc::CreateRouteEntry {
                    table,
                    destination,
                    instance,
                    name: self.name.clone(),
                    description: format!("pods of node {node}"),
                    token,
                };
                self.cloud.one(&request).await.map(drop)
            }
            Call::Delete { entry, .. } => self.cloud.one(&vpc::DeleteRouteEntry { entry }).await,
        };
        outcome.map_err(|error| fault(&error))
    }

    async fn find(&self) -> Result<RouteTableId, Fault> {
        let vpc = self.cloud.vpc.clone();
        let call = vpc::DescribeSystemRouteTable { vpc };
        let found = self.cloud.one(&call).await.map_err(|error| fault(&error))?;
        found.ok_or_else(|| Fault {
            class: FaultClass::Denied,
            text: format!(
                "the cloud shows no system route table of {}: give its id as routeTableID, or permit \
                 vpc:DescribeRouteTableList",
                self.cloud.vpc
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use model::{ClientToken, InstanceId};

    use super::*;
    use crate::calls::tests::{granted_by, region};

    const POLICY: &str = include_str!("../../../../deploy/ram/controlplane-routes.json");

    /// The life of one entry, up to the first refusal.
    async fn life(table: &Table, instance: InstanceId) -> Result<(), Fault> {
        assert!(table.look().await?.is_empty());
        let destination = "172.16.1.0/24".parse().expect("a network");
        table
            .change(Call::Create {
                node: "n1".into(),
                destination,
                instance,
                token: ClientToken::new("t").expect("a token"),
            })
            .await?;
        let made = table.look().await?;
        assert_eq!((made.len(), made[0].destination), (1, destination));
        let entry = made[0].id.clone();
        table.change(Call::Delete { entry, destination }).await?;
        assert!(table.look().await?.is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn the_policy_is_enough_and_each_action_that_lacks_is_refused() {
        let all = granted_by(POLICY);
        for action in all.iter().map(Some).chain([None]) {
            let mut rest = all.clone();
            if let Some(action) = action {
                rest.remove(action);
            }
            let (cloud, instance) = region(rest).await;
            let table = Table {
                cloud: Arc::new(cloud),
                name: "terway.c-lab".into(),
                id: OnceCell::new(),
            };
            let lived = life(&table, instance).await;
            let refused = lived.as_ref().err().map(|fault| fault.class);
            assert_eq!(
                refused,
                action.map(|_| FaultClass::Denied),
                "{action:?}: {lived:?}"
            );
        }
    }
}
