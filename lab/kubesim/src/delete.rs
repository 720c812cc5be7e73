//! Deletion: graceful for pods, held up by finalizers, and of namespaces with what is in them.
//!
//! The namespace controller's and the garbage collector's part is done at once: a namespace loses
//! its contents in the same step, and propagation policies find no dependents to wait for.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Key, Target, served},
    error::{ApiError, Named},
    object,
    registry::{NAMESPACES, PODS, Resource},
    selector::Selector,
    time::{UnixTime, parse_rfc3339, rfc3339},
    write::bump_generation,
};

/// Namespaces that admission protects.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What a delete asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds to shut down in; the pod's own when `None`, 0 for at once.
    pub grace: Option<i64>,
    /// Only the object with this UID.
    pub uid: String,
    /// Only the object at this resourceVersion.
    pub resource_version: String,
}

impl DeleteOptions {
    /// Reads a `DeleteOptions` body.
    ///
    /// # Errors
    /// `BadRequest` when it is something else.
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        let kind = object::text(body, "/kind");
        if !body.is_object() || !matches!(kind, "" | "DeleteOptions") {
            let why = format!("{kind} cannot be handled as a DeleteOptions");
            return Err(ApiError::bad_request(why));
        }
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(seconds) => Some(seconds.as_i64().ok_or_else(|| {
                ApiError::bad_request("gracePeriodSeconds must be a number of seconds")
            })?),
        };
        Ok(Self {
            grace,
            uid: object::text(body, "/preconditions/uid").to_owned(),
            resource_version: object::text(body, "/preconditions/resourceVersion").to_owned(),
        })
    }
}

/// What a delete came to.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// Still there, on its way.
    Pending(Arc<Value>),
    /// Gone; its last state.
    Gone(Arc<Value>),
}

impl Deleted {
    /// The object's last known state.
    pub fn object(&self) -> &Arc<Value> {
        match self {
            Self::Pending(object) | Self::Gone(object) => object,
        }
    }
}

impl Cluster {
    /// Deletes one object, or starts to.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when a precondition fails, `Forbidden` for protected namespaces.
    pub fn delete(
        &mut self,
        now: UnixTime,
        target: Target<'_>,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let Target { resource, name, .. } = target;
        let old = Arc::clone(self.stored(target)?);
        for (what, field, asked, happened) in [
            (
                "UID",
                "/metadata/uid",
                &options.uid,
                "deleted and then recreated",
            ),
            (
                "ResourceVersion",
                "/metadata/resourceVersion",
                &options.resource_version,
                "modified",
            ),
        ] {
            let actual = object::text(&old, field);
            if !asked.is_empty() && asked != actual {
                let why = format!(
                    "the {what} in the precondition ({asked}) does not match the {what} in record \
                     ({actual}). The object might have been {happened}"
                );
                return Err(ApiError::conflict(resource, Named::Kind, name, &why));
            }
        }
        let deleted = if resource == &NAMESPACES {
            self.delete_namespace(now, target, &old)?
        } else {
            self.delete_object(now, target, &old, options)
        };
        Ok(match deleted {
            Deleted::Pending(object) => Deleted::Pending(served(resource, &object)),
            Deleted::Gone(object) => Deleted::Gone(served(resource, &object)),
        })
    }

    /// Deletes every selected object of a namespace and answers with what was selected.
    ///
    /// # Errors
    /// As for [`Cluster::delete`].
    pub fn delete_collection(
        &mut self,
        now: UnixTime,
        resource: &'static Resource,
        namespace: &str,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Value>>, ApiError> {
        let inside = |key: &Key| namespace.is_empty() || key.namespace == namespace;
        let keys: Vec<_> = self
            .objects_of(resource)
            .filter(|(key, object)| inside(key) && selector.matches(object))
            .map(|(key, _)| key.clone())
            .collect();
        let mut gone = Vec::new();
        for Key {
            namespace, name, ..
        } in keys
        {
            let target = Target {
                resource,
                namespace: &namespace,
                name: &name,
            };
            gone.push(Arc::clone(self.delete(now, target, options)?.object()));
        }
        Ok(gone)
    }

    fn delete_object(
        &mut self,
        now: UnixTime,
        target: Target<'_>,
        old: &Arc<Value>,
        options: &DeleteOptions,
    ) -> Deleted {
        let grace = if target.resource == &PODS {
            pod_grace(old, options)
        } else {
            0
        };
        let running = old
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64);
        if grace == 0 && object::items(old, "/metadata/finalizers").is_empty() {
            let mut last = Value::clone(old);
            if target.resource == &PODS {
                let meta = object::metadata(&mut last);
                object::default(meta, "deletionTimestamp", rfc3339(now));
                meta.insert("deletionGracePeriodSeconds".into(), 0.into());
            }
            let gone = self.remove(target.key(), last);
            self.finalise_namespace_of(target);
            return Deleted::Gone(gone);
        }
        if running.is_some_and(|running| running <= grace) {
            return Deleted::Pending(Arc::clone(old));
        }
        // A shorter grace counts from when deletion began, not from now.
        let began = running
            .and_then(|running| {
                let deadline = parse_rfc3339(object::text(old, "/metadata/deletionTimestamp"))?;
                Some(deadline.saturating_sub(seconds(running)))
            })
            .unwrap_or(now);
        let mut new = Value::clone(old);
        let meta = object::metadata(&mut new);
        meta.insert(
            "deletionTimestamp".into(),
            rfc3339(began + seconds(grace)).into(),
        );
        meta.insert("deletionGracePeriodSeconds".into(), grace.into());
        bump_generation(&mut new);
        Deleted::Pending(self.put(target.key(), new))
    }

    fn delete_namespace(
        &mut self,
        now: UnixTime,
        target: Target<'_>,
        old: &Arc<Value>,
    ) -> Result<Deleted, ApiError> {
        if IMMORTAL.contains(&target.name) {
            return Err(ApiError::forbidden(
                target.resource,
                target.name,
                "this namespace may not be deleted",
                &[],
            ));
        }
        if !object::text(old, "/metadata/deletionTimestamp").is_empty() {
            return Ok(Deleted::Pending(Arc::clone(old)));
        }
        let mut new = Value::clone(old);
        object::metadata(&mut new).insert("deletionTimestamp".into(), rfc3339(now).into());
        new["status"]["phase"] = "Terminating".into();
        let terminating = self.put(target.key(), new);
        let namespaced: Vec<_> = self.resources().filter(|r| r.namespaced).collect();
        for resource in namespaced {
            let (all, options) = (Selector::default(), DeleteOptions::default());
            self.delete_collection(now, resource, target.name, &all, &options)?;
        }
        self.finalise_namespace(target.name);
        Ok(Deleted::Pending(terminating))
    }

    /// After the removal of `target`: its namespace may have been waiting for that.
    pub(crate) fn finalise_namespace_of(&mut self, target: Target<'_>) {
        if target.resource.namespaced {
            self.finalise_namespace(target.namespace);
        }
    }

    /// Ends a terminating namespace once nothing is left in it.
    fn finalise_namespace(&mut self, name: &str) {
        let target = Target {
            resource: &NAMESPACES,
            namespace: "",
            name,
        };
        let Ok(stored) = self.stored(target).cloned() else {
            return;
        };
        let waiting = stored["status"]["phase"] == "Terminating"
            && !object::items(&stored, "/spec/finalizers").is_empty();
        if !waiting || self.objects.keys().any(|key| key.namespace == name) {
            return;
        }
        let mut last = Value::clone(&stored);
        last["spec"] = json!({});
        if object::items(&last, "/metadata/finalizers").is_empty() {
            self.remove(target.key(), last);
        } else {
            object::metadata(&mut last).insert("deletionGracePeriodSeconds".into(), 0.into());
            self.put(target.key(), last);
        }
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or_default())
}

/// A pod that no node runs, or that has ended, needs no time to shut down.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let idle = object::text(pod, "/spec/nodeName").is_empty()
        || matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed");
    let own = || {
        pod.pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
    };
    match options.grace.or_else(own).unwrap_or_default() {
        _ if idle => 0,
        negative if negative < 0 => 1,
        grace => grace,
    }
}
