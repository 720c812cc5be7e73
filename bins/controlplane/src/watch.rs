//! Watches of the API server: what there is, told one by one; what vanished while a watch was broken is told
//! when the next list is whole.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use engine::cluster::Input;
use futures::StreamExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use crate::{cause::chain, driver::Message};

/// What a watch tells of one kind.
pub(crate) enum Told<K> {
    /// It is there, like this.
    Is(Box<K>),
    /// It is gone.
    Gone(Name),
}

/// Namespace, if it has one, and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

fn name_of<K: Resource>(object: &K) -> Name {
    Name {
        namespace: object.namespace(),
        name: object.name_any(),
    }
}

/// Which first lists are not whole yet.
pub(crate) struct Listed {
    missing: AtomicUsize,
    whole: Notify,
}

impl Listed {
    /// Of this many kinds.
    pub(crate) fn new(kinds: usize) -> Self {
        Self {
            missing: AtomicUsize::new(kinds),
            whole: Notify::new(),
        }
    }

    fn one(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.whole.notify_one();
        }
    }

    /// Waits until every first list is whole. For one waiter.
    pub(crate) async fn wait(&self) {
        while self.missing.load(Ordering::Acquire) > 0 {
            self.whole.notified().await;
        }
    }
}

/// Where the watches tell.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) driver: mpsc::Sender<Message>,
    pub(crate) listed: Arc<Listed>,
}

impl Watches {
    /// Tells the driver what `read` makes of every object of kind `K` in the cluster, for ever.
    pub(crate) fn follow<K>(
        &self,
        kind: &'static str,
        read: impl FnMut(Told<K>) -> Option<Input> + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        tokio::spawn(self.clone().run(kind, read));
    }

    async fn run<K>(self, kind: &'static str, mut read: impl FnMut(Told<K>) -> Option<Input>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let stream = kube::runtime::watcher(api, watcher::Config::default()).default_backoff();
        let mut events = pin!(stream);
        let mut known = Known::default();
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind, error = %chain(&error), "watching");
                    continue;
                }
            };
            let whole = matches!(event, Event::InitDone) && !known.listed;
            for told in known.tells(event) {
                if let Some(input) = read(told) {
                    // It fails only when the driver has ended, and the program with it.
                    let _ = self.driver.send(Message::Input(input)).await;
                }
            }
            if whole {
                known.listed = true;
                self.listed.one();
            }
        }
    }
}

/// The names a watch has told of.
#[derive(Default)]
struct Known {
    names: BTreeSet<Name>,
    listing: BTreeSet<Name>,
    listed: bool,
}

impl Known {
    fn tells<K: Resource<DynamicType = ()>>(&mut self, event: Event<K>) -> Vec<Told<K>> {
        match event {
            Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listing.insert(name_of(&object));
                vec![Told::Is(Box::new(object))]
            }
            Event::InitDone => {
                let now = std::mem::take(&mut self.listing);
                let gone = self.names.difference(&now).cloned().map(Told::Gone);
                let gone = gone.collect();
                self.names = now;
                gone
            }
            Event::Apply(object) => {
                self.names.insert(name_of(&object));
                vec![Told::Is(Box::new(object))]
            }
            Event::Delete(object) => {
                let name = name_of(&object);
                self.names.remove(&name);
                vec![Told::Gone(name)]
            }
        }
    }
}
