//! Drives the machine: inputs from watches and from the ends of calls go in, actions go to whoever carries
//! them out. One task owns the machine.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use engine::cluster::{Action, Cluster, Input, View, Waiting};
use model::{PodKey, Timestamp};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use crate::{calls::Cloud, notices::Notices, records::Records};

/// Inputs that may wait. A list of 10,000 pods comes in one go, and whoever tells waits meanwhile.
pub(crate) const QUEUE_MAX: usize = 4096;

/// The longest sleep: a clock that was set may have made a deadline wrong.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// What the driver is told.
pub(crate) enum Message {
    Input(Input),
    /// What the machine sees at this moment.
    Observe(oneshot::Sender<View>),
    /// What a pod waits for.
    Explain(PodKey, oneshot::Sender<Option<Waiting>>),
}

/// Everything the driver needs.
pub(crate) struct Driver {
    pub(crate) machine: Cluster,
    pub(crate) inbox: mpsc::Receiver<Message>,
    pub(crate) outbox: mpsc::Sender<Message>,
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) records: Arc<Records>,
    pub(crate) notices: Notices,
}

/// The wall clock: promises outlive processes.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Driver {
    /// Runs until nobody can send any more.
    pub(crate) async fn run(mut self) {
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.carry(action);
            }
            let at = now();
            let patience = self
                .machine
                .deadline(at)
                .map_or(SLEEP_MAX, |due| due.since(at));
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = sleep(patience.min(SLEEP_MAX)) => self.machine.handle(now(), Input::Tick),
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.machine.handle(now(), input),
            // Whoever asked may have gone meanwhile.
            Message::Observe(answer) => drop(answer.send(self.machine.view())),
            Message::Explain(pod, answer) => {
                drop(answer.send(self.machine.waiting(&pod).cloned()));
            }
        }
    }

    fn carry(&self, action: Action) {
        let (cloud, records) = (Arc::clone(&self.cloud), Arc::clone(&self.records));
        match action {
            Action::Notice(notice) => self.notices.tell(&notice),
            Action::Store(key, store) => {
                self.spawn(async move { records.store(key, store).await });
            }
            Action::Resolve(name, found) => {
                self.spawn(async move { records.resolve(name, found).await });
            }
            Action::Call(op, call) => {
                self.spawn(async move { Input::Called(op, cloud.call(call).await) });
            }
            Action::Look(op, enis) => {
                self.spawn(async move { Input::Looked(op, cloud.look(enis).await) });
            }
            Action::DescribeVSwitches(op, ids) => {
                self.spawn(async move { Input::VSwitches(op, cloud.vswitches(ids).await) });
            }
            Action::ListEnis(op) => {
                self.spawn(async move { Input::Listed(op, cloud.list().await) });
            }
        }
    }

    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            let input = work.await;
            // It fails only when the driver has ended, and then nobody waits.
            let _ = outbox.send(Message::Input(input)).await;
        });
    }
}
