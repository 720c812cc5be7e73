//! Drives the route machine beside that of the trunk pods: nodes and answers of the cloud go in, calls,
//! conditions and events come out. One task owns it; it runs where `configureCloudRoutes` says so.

mod condition;
mod seen;
mod table;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::route::{Action, Input, Notice, Obstacle, RouteNode, Routes};
use kube::{Client, runtime::events::EventType};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

pub(crate) use self::{
    seen::{Blocks, Selector},
    table::Table,
};
use crate::{driver::now, metrics::Metrics, notices::Notices};

/// The longest sleep: a clock that was set may have made a deadline wrong.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Outcomes that may wait: one call, and as many conditions as nodes may come at once.
const OUTCOMES_MAX: usize = 256;

/// The nodes that need a route, by name, as they are.
pub(crate) type Nodes = BTreeMap<String, RouteNode>;

/// Everything the driver needs.
pub(crate) struct Driver {
    pub(crate) machine: Routes,
    pub(crate) nodes: watch::Receiver<Nodes>,
    /// True once all nodes are known and this replica leads.
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) table: Arc<Table>,
    pub(crate) kube: Client,
    pub(crate) notices: Notices,
    pub(crate) metrics: Arc<Metrics>,
}

impl Driver {
    /// Runs until the program ends or gives the lead up.
    pub(crate) async fn run(mut self) {
        let (done, mut outcomes) = mpsc::channel(OUTCOMES_MAX);
        let (mut told, mut leading) = (Nodes::new(), false);
        loop {
            self.tell(&mut told, &mut leading);
            // Given up: the table is the next replica's.
            if leading && !*self.leads.borrow() {
                return;
            }
            for action in self.machine.poll_actions() {
                self.carry(action, &done);
            }
            self.metrics.routes(&self.machine.view());
            let at = now();
            let due = self.machine.deadline(at);
            let patience = due.map_or(SLEEP_MAX, |due| due.since(at));
            let input = tokio::select! {
                Some(input) = outcomes.recv() => input,
                Ok(()) = self.nodes.changed() => continue,
                Ok(()) = self.leads.changed() => continue,
                () = sleep(patience.min(SLEEP_MAX)) => Input::Tick,
            };
            self.machine.handle(now(), input);
        }
    }

    /// Tells the machine what has changed about the nodes, and when it may begin.
    fn tell(&mut self, told: &mut Nodes, leading: &mut bool) {
        let nodes = self.nodes.borrow_and_update().clone();
        let gone = told.keys().filter(|name| !nodes.contains_key(*name));
        for name in gone {
            self.machine.handle(now(), Input::Node(name.clone(), None));
        }
        for (name, node) in &nodes {
            if told.get(name) != Some(node) {
                let node = Some(Box::new(node.clone()));
                self.machine.handle(now(), Input::Node(name.clone(), node));
            }
        }
        *told = nodes;
        if *self.leads.borrow_and_update() && !*leading {
            *leading = true;
            self.machine.handle(now(), Input::Complete);
        }
    }

    fn carry(&self, action: Action, done: &mpsc::Sender<Input>) {
        let (table, kube, done) = (Arc::clone(&self.table), self.kube.clone(), done.clone());
        match action {
            Action::Notice(notice) => self.say(&notice),
            Action::Look => spawn(done, async move { Input::Looked(table.look().await) }),
            Action::Call(call) => {
                spawn(done, async move { Input::Called(table.change(call).await) });
            }
            Action::Mark(node, outcome) => spawn(done, async move {
                let written = condition::write(kube, &node, outcome).await;
                Input::Marked(node, written)
            }),
        }
    }

    fn say(&self, notice: &Notice) {
        let notices = &self.notices;
        match notice {
            Notice::Reachable(node) => {
                tracing::info!(node, "the route table leads to the node");
                let note = "the VPC's route table leads to its pods".into();
                notices.node("RouteCreated", EventType::Normal, node, note);
            }
            Notice::Blocked(node, obstacle, why) => {
                tracing::warn!(node, why, "no route to the node");
                let reason = match obstacle {
                    Obstacle::Conflict => "RouteConflict",
                    Obstacle::Quota => "RouteQuotaExceeded",
                    Obstacle::Refused => "CreateRouteFailed",
                };
                notices.node(reason, EventType::Warning, node, why.clone());
            }
            Notice::Deleting(block) => {
                tracing::info!(%block, "a route entry of ours that no node needs is deleted");
                notices.count("RouteDeleted");
            }
            Notice::CloudFailed(text) => {
                tracing::warn!(text, "route table");
                notices.count("CloudFailed");
            }
            Notice::MarkFailed(node, why) => {
                tracing::warn!(node, why, "writing condition NetworkUnavailable");
                notices.count("NodeConditionFailed");
            }
        }
    }
}

fn spawn(done: mpsc::Sender<Input>, work: impl Future<Output = Input> + Send + 'static) {
    tokio::spawn(async move {
        // It fails only when the driver has ended, and then nobody waits.
        let _ = done.send(work.await).await;
    });
}
