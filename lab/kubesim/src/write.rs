//! Create and update, and the rules every write goes through.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Target, served},
    defaults,
    error::{ApiError, Cause, Named},
    events, immutable, object,
    registry::{NAMESPACES, Resource},
    time::{UnixTime, rfc3339},
    validate,
};

/// Which half of an object a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object itself; its status is left alone where status is a subresource.
    Whole,
    /// `/status`: everything but status and metadata is left alone.
    Status,
}

/// What a write did.
#[derive(Debug, Clone)]
pub enum Written {
    /// There is a new object.
    Created(Arc<Value>),
    /// The object has this state now (possibly the one it had).
    Updated(Arc<Value>),
}

impl Written {
    /// The object, either way.
    pub fn into_object(self) -> Arc<Value> {
        match self {
            Self::Created(object) | Self::Updated(object) => object,
        }
    }
}

/// What only the server sets; a create starts without them.
pub(crate) const SYSTEM_FIELDS: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
];

impl Cluster {
    /// Creates an object from `body`.
    ///
    /// # Errors
    /// As the API server refuses: `BadRequest`, `Invalid`, `NotFound` and `Forbidden` for its
    /// namespace, `AlreadyExists`.
    pub fn create(
        &mut self,
        now: UnixTime,
        resource: &'static Resource,
        namespace: &str,
        mut body: Value,
    ) -> Result<Arc<Value>, ApiError> {
        validate::shape(resource, namespace, &mut body)?;
        if !object::text(&body, "/metadata/resourceVersion").is_empty() {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::internal(why));
        }
        events::to_stored(resource, &mut body);
        object::normalise(&mut body);
        self.name_object(resource, namespace, &mut body);
        let name = object::text(&body, "/metadata/name").to_owned();
        self.check_namespace(resource, namespace, &name)?;
        let uid = self.ids.uid();
        let meta = object::metadata(&mut body);
        for field in SYSTEM_FIELDS {
            meta.remove(field);
        }
        meta.insert("uid".into(), uid.into());
        meta.insert("creationTimestamp".into(), rfc3339(now).into());
        if resource.generation {
            meta.insert("generation".into(), 1.into());
        }
        defaults::fill_new(resource, &mut body);
        validate::content(resource, &body)?;
        let key = Target {
            resource,
            namespace,
            name: &name,
        }
        .key();
        if self.objects.contains_key(&key) {
            return Err(ApiError::already_exists(resource, &name));
        }
        Ok(served(resource, &self.put(key, body)))
    }

    /// Replaces an object, or creates it where its kind allows that.
    ///
    /// # Errors
    /// As for [`Cluster::create`], and `Conflict` when the body's resourceVersion or uid is not the
    /// object's.
    pub fn update(
        &mut self,
        now: UnixTime,
        target: Target<'_>,
        part: Part,
        mut body: Value,
    ) -> Result<Written, ApiError> {
        let Target {
            resource,
            namespace,
            name,
        } = target;
        validate::shape(resource, namespace, &mut body)?;
        let named = object::text(&body, "/metadata/name");
        if named != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({named}) does not match the name on the URL ({name})"
            )));
        }
        if self.objects.contains_key(&target.key()) {
            return self.replace(target, part, body).map(Written::Updated);
        }
        if !resource.create_on_update || part == Part::Status {
            return Err(target.not_found());
        }
        check_uid(target, object::text(&body, "/metadata/uid"), "")?;
        object::metadata(&mut body).remove("resourceVersion");
        self.create(now, resource, namespace, body)
            .map(Written::Created)
    }

    /// Moves an existing object to the state a client sent or a patch produced.
    pub(crate) fn replace(
        &mut self,
        target: Target<'_>,
        part: Part,
        mut new: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let Target { resource, name, .. } = target;
        let old = Arc::clone(self.stored(target)?);
        check_uid(
            target,
            object::text(&new, "/metadata/uid"),
            object::text(&old, "/metadata/uid"),
        )?;
        let version = object::text(&new, "/metadata/resourceVersion");
        if version.is_empty() && !resource.unconditional_update {
            return Err(ApiError::unversioned(resource, name));
        }
        if !version.is_empty() && version != object::text(&old, "/metadata/resourceVersion") {
            return Err(ApiError::stale(resource, name));
        }
        events::to_stored(resource, &mut new);
        object::normalise(&mut new);
        keep_from(&old, resource, part, &mut new);
        defaults::fill(resource, &mut new);
        validate::content(resource, &new)?;
        immutable::check(resource, &old, &new)?;
        if new == *old {
            return Ok(served(resource, &old));
        }
        if resource.generation && counted(resource, &new) != counted(resource, &old) {
            bump_generation(&mut new);
        }
        let done_deleting = new.pointer("/metadata/deletionGracePeriodSeconds") == Some(&json!(0))
            && object::items(&new, "/metadata/finalizers").is_empty();
        let key = target.key();
        let stored = if done_deleting {
            self.remove(key, new)
        } else {
            self.put(key, new)
        };
        if done_deleting {
            self.finalise_namespace_of(target);
        }
        Ok(served(resource, &stored))
    }

    fn name_object(&mut self, resource: &'static Resource, namespace: &str, body: &mut Value) {
        let prefix = object::text(body, "/metadata/generateName").to_owned();
        if prefix.is_empty() || !object::text(body, "/metadata/name").is_empty() {
            return;
        }
        loop {
            let name = self.ids.name(&prefix);
            let target = Target {
                resource,
                namespace,
                name: &name,
            };
            if !self.objects.contains_key(&target.key()) {
                object::metadata(body).insert("name".into(), name.into());
                return;
            }
        }
    }

    /// Nothing is made in a namespace that is missing or going.
    fn check_namespace(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        if !resource.namespaced {
            return Ok(());
        }
        let target = Target {
            resource: &NAMESPACES,
            namespace: "",
            name: namespace,
        };
        let stored = self.stored(target)?;
        if object::text(stored, "/metadata/deletionTimestamp").is_empty() {
            return Ok(());
        }
        let cause = Cause {
            reason: "NamespaceTerminating",
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        };
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        Err(ApiError::forbidden(resource, name, &why, &[cause]))
    }
}

/// A client that names a UID means that object and no later one of the same name.
pub(crate) fn check_uid(target: Target<'_>, asked: &str, actual: &str) -> Result<(), ApiError> {
    if asked.is_empty() || asked == actual {
        return Ok(());
    }
    let why =
        format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {actual}");
    Err(ApiError::conflict(
        target.resource,
        Named::Plural,
        target.name,
        &why,
    ))
}

/// What `metadata.generation` counts the changes of: what is wanted; where a client defined the resource,
/// whatever it has but metadata and the status of its own.
fn counted<'a>(resource: &Resource, object: &'a Value) -> Vec<(&'a String, &'a Value)> {
    let counts = |name: &str| match (resource.custom, name) {
        (Some(_), "metadata") => false,
        (Some(_), "status") => !resource.status,
        (Some(_), _) => true,
        (None, name) => matches!(name, "spec" | "webhooks"),
    };
    object::entries(object, "")
        .filter(|(name, _)| counts(name))
        .collect()
}

pub(crate) fn bump_generation(object: &mut Value) {
    if let Some(generation) = object
        .pointer("/metadata/generation")
        .and_then(Value::as_u64)
    {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Puts back what this kind of write may not touch.
fn keep_from(old: &Value, resource: &Resource, part: Part, new: &mut Value) {
    let old_meta = &old["metadata"];
    let meta = object::metadata(new);
    for field in SYSTEM_FIELDS {
        object::copy(meta, old_meta, field);
    }
    if !meta.contains_key("managedFields") {
        object::copy(meta, old_meta, "managedFields");
    }
    if part == Part::Status {
        object::copy(meta, old_meta, "ownerReferences");
    }
    if part == Part::Status && resource.custom.is_some() {
        *new = with_status(old, new);
        return;
    }
    let Some(fields) = new.as_object_mut() else {
        return;
    };
    match part {
        Part::Whole if resource.status => object::copy(fields, old, "status"),
        Part::Whole => {}
        Part::Status => {
            fields.retain(|key, _| matches!(key.as_str(), "metadata" | "status"));
            for (key, value) in object::entries(old, "").filter(|(key, _)| *key != "status") {
                fields.entry(key.as_str()).or_insert_with(|| value.clone());
            }
        }
    }
    if resource == &NAMESPACES {
        object::copy(fields, old, "spec");
    }
}

/// A custom resource's write of status takes nothing of the metadata but who manages the fields.
fn with_status(old: &Value, new: &Value) -> Value {
    let mut kept = old.clone();
    for (at, field) in [("", "status"), ("/metadata", "managedFields")] {
        let from = new.pointer(at).unwrap_or(&Value::Null);
        if let Some(Value::Object(to)) = kept.pointer_mut(at) {
            object::copy(to, from, field);
        }
    }
    kept
}
