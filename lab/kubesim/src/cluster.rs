//! The state of the cluster and the verbs that only read it.
//!
//! A plain value: no clock, no lock, no socket. Whoever holds it decides what time it is.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{
    custom,
    error::ApiError,
    events,
    ids::Ids,
    object,
    registry::{CRDS, EVENTS_V1, NAMESPACES, RESOURCES, Resource},
    selector::Selector,
    time::UnixTime,
    watch::{Entry, History},
};

/// Namespaces every cluster is born with.
const FIRST_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Where an object is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) store: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One object of one resource, as a request names it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The row of the table.
    pub resource: &'static Resource,
    /// Empty for what lives in no namespace.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
}

impl Target<'_> {
    pub(crate) fn key(&self) -> Key {
        Key {
            store: self.resource.store(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
        }
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource, self.name)
    }
}

/// A Kubernetes cluster's objects and their history.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) ids: Ids,
    pub(crate) objects: BTreeMap<Key, Arc<Value>>,
    pub(crate) history: BTreeMap<&'static str, History>,
    /// Rows that clients have defined, by the names of the definitions.
    custom: BTreeMap<String, &'static Resource>,
    revision: u64,
    /// The revision of the newborn cluster: nobody can watch from before it.
    pub(crate) born: u64,
}

/// What a list is asked for. The default is everything, as of now.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Which objects.
    pub selector: Selector,
    /// At most this many; 0 for all.
    pub limit: usize,
    /// Where the last page ended; empty for the first page.
    pub continue_token: String,
    /// As of exactly this revision; `None` for now.
    pub at: Option<u64>,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The objects as the resource serves them, by namespace and name.
    pub items: Vec<Arc<Value>>,
    /// As of which revision.
    pub revision: u64,
    /// Where the next page starts, when there is one.
    pub continue_token: Option<String>,
    /// How many follow, when that is known.
    pub remaining: Option<usize>,
}

impl Listing {
    /// `ListMeta`.
    pub fn metadata(&self) -> Value {
        let mut meta = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.continue_token {
            meta["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }

    /// The list object: `PodList` and its like. It says the kind once, for all its items.
    pub fn to_object(&self, resource: &Resource) -> Value {
        let item = |object: &Arc<Value>| -> Value {
            let fields = object::entries(object, "");
            fields
                .filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Map<_, _>>()
                .into()
        };
        json!({
            "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
            "metadata": self.metadata(),
            "items": self.items.iter().map(item).collect::<Vec<_>>(),
        })
    }
}

impl Cluster {
    /// An empty cluster with its first namespaces. Equal seeds give equal UIDs and generated names.
    pub fn new(seed: u64, now: UnixTime) -> Self {
        let mut cluster = Self {
            ids: Ids::new(seed),
            objects: BTreeMap::new(),
            history: BTreeMap::new(),
            custom: BTreeMap::new(),
            revision: 0,
            born: 0,
        };
        for name in FIRST_NAMESPACES {
            let namespace = json!({ "metadata": { "name": name } });
            let made = cluster.create(now, &NAMESPACES, "", namespace);
            debug_assert!(made.is_ok(), "{made:?}");
        }
        cluster.born = cluster.revision;
        cluster
    }

    /// Every resource that is served, in the order discovery shows them: the table, then what clients
    /// have defined.
    pub fn resources(&self) -> impl Iterator<Item = &'static Resource> + use<'_> {
        let table = RESOURCES.iter().copied();
        table.chain(self.custom.values().copied())
    }

    /// The row for a path's group, version and plural.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        self.resources()
            .find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// The row an object says it belongs to.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&'static Resource> {
        self.resources()
            .find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// The revision of the latest change: `metadata.resourceVersion` of a list taken now.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get(&self, target: Target<'_>) -> Result<Arc<Value>, ApiError> {
        Ok(served(target.resource, self.stored(target)?))
    }

    /// Objects of a namespace, or of all when `namespace` is empty.
    ///
    /// # Errors
    /// `BadRequest` for a token that is not ours, `Expired` for a page or revision too far back.
    pub fn list(
        &self,
        resource: &'static Resource,
        namespace: &str,
        query: &ListQuery,
    ) -> Result<Listing, ApiError> {
        let resume = parse_token(&query.continue_token)?;
        let revision = resume
            .as_ref()
            .map(|r| r.0)
            .or(query.at)
            .unwrap_or(self.revision);
        let all = self.snapshot(resource, namespace, revision)?;
        let mut selected = all.into_iter().filter(|(key, object)| {
            let after = resume
                .as_ref()
                .is_none_or(|(_, namespace, name)| (&key.namespace, &key.name) > (namespace, name));
            after && query.selector.matches(object)
        });
        let limit = if query.limit == 0 {
            usize::MAX
        } else {
            query.limit
        };
        let page: Vec<_> = selected.by_ref().take(limit).collect();
        let rest = selected.count();
        let last = page.last().filter(|_| rest > 0).map(|(key, _)| key.clone());
        Ok(Listing {
            items: page
                .iter()
                .map(|(_, object)| served(resource, object))
                .collect(),
            revision,
            continue_token: last.map(|key| token(revision, &key)),
            remaining: (rest > 0 && query.selector.is_empty()).then_some(rest),
        })
    }

    /// The stored objects as of `revision`: today's with the changes since then taken back.
    fn snapshot(
        &self,
        resource: &'static Resource,
        namespace: &str,
        revision: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, ApiError> {
        if revision > self.revision {
            return Err(ApiError::future_version(revision, self.revision));
        }
        let inside = |key: &Key| namespace.is_empty() || key.namespace == namespace;
        let mut objects: BTreeMap<_, _> = self
            .objects_of(resource)
            .filter(|(key, _)| inside(key))
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        if let Some(history) = self.history.get(resource.store()) {
            for entry in history
                .since(revision)?
                .rev()
                .filter(|entry| inside(&entry.key))
            {
                match &entry.before {
                    Some(before) => objects.insert(entry.key.clone(), Arc::clone(before)),
                    None => objects.remove(&entry.key),
                };
            }
        }
        Ok(objects)
    }

    /// Stored objects of a resource, by namespace and name.
    pub(crate) fn objects_of(
        &self,
        resource: &'static Resource,
    ) -> impl Iterator<Item = (&Key, &Arc<Value>)> + use<'_> {
        let store = resource.store();
        let first = Key {
            store,
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.store == store)
    }

    pub(crate) fn stored(&self, target: Target<'_>) -> Result<&Arc<Value>, ApiError> {
        self.objects
            .get(&target.key())
            .ok_or_else(|| target.not_found())
    }

    /// Stores a new state of an object under the next revision.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let after = Arc::new(object);
        if key.store == CRDS.store() {
            self.custom.insert(key.name.clone(), custom::row(&after));
        }
        let before = self.objects.insert(key.clone(), Arc::clone(&after));
        self.record(key, before, Arc::clone(&after), false);
        after
    }

    /// Removes an object that is there; its last state carries the revision of the removal.
    pub(crate) fn remove(&mut self, key: Key, mut last: Value) -> Arc<Value> {
        self.revision += 1;
        last["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let after = Arc::new(last);
        let before = self.objects.remove(&key);
        let defined = (key.store == CRDS.store()).then(|| self.custom.remove(&key.name));
        self.record(key, before, Arc::clone(&after), true);
        // The objects go with their definition, at once and whatever their finalizers.
        if let Some(Some(resource)) = defined {
            let all: Vec<_> = self
                .objects_of(resource)
                .map(|(key, _)| key.clone())
                .collect();
            for key in all {
                let last = Value::clone(&self.objects[&key]);
                self.remove(key, last);
            }
        }
        after
    }

    fn record(&mut self, key: Key, before: Option<Arc<Value>>, after: Arc<Value>, deleted: bool) {
        let entry = Entry {
            revision: self.revision,
            key,
            before,
            after,
            deleted,
        };
        self.history
            .entry(entry.key.store)
            .or_default()
            .record(entry);
    }
}

/// The object as `resource` serves it.
pub(crate) fn served(resource: &Resource, stored: &Arc<Value>) -> Arc<Value> {
    if resource != &EVENTS_V1 {
        return Arc::clone(stored);
    }
    let mut event = Value::clone(stored);
    events::to_served(resource, &mut event);
    Arc::new(event)
}

/// Opaque to clients: the revision of the first page and the last key of this one.
fn token(revision: u64, last: &Key) -> String {
    URL_SAFE_NO_PAD.encode(format!("{revision}/{}/{}", last.namespace, last.name))
}

fn parse_token(token: &str) -> Result<Option<(u64, String, String)>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let mut parts = text.splitn(3, '/');
        let revision = parts.next()?.parse().ok()?;
        Some((revision, parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    let bad = || ApiError::bad_request("continue key is not valid".to_owned());
    read().map(Some).ok_or_else(bad)
}
