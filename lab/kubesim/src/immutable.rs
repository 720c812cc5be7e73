//! What may not change once an object exists.

use serde_json::Value;

use crate::{
    error::{ApiError, Cause},
    object,
    registry::{PODS, Resource},
};

const POD_RULE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Refuses a change from `old` to `new` that the kind does not allow.
pub(crate) fn check(resource: &'static Resource, old: &Value, new: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    causes.extend(new_finalizer(old, new));
    if resource == &PODS && frozen_pod_spec(old) != frozen_pod_spec(new) {
        causes.push(Cause::forbidden("spec", POD_RULE));
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = object::text(old, "/metadata/name");
    Err(ApiError::invalid(resource, name, &causes))
}

/// An object that is going accepts no new reason to stay.
fn new_finalizer(old: &Value, new: &Value) -> Option<Cause> {
    if object::text(old, "/metadata/deletionTimestamp").is_empty() {
        return None;
    }
    let had = object::items(old, "/metadata/finalizers");
    let added: Vec<_> = object::items(new, "/metadata/finalizers")
        .iter()
        .filter(|f| !had.contains(f))
        .collect();
    let list = added
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers \
         []string{{{list}}}"
    );
    (!added.is_empty()).then(|| Cause::forbidden("metadata.finalizers", &why))
}

/// The spec without what may change.
fn frozen_pod_spec(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("activeDeadlineSeconds");
        fields.remove("tolerations");
        for list in ["containers", "initContainers"] {
            let containers = fields.get_mut(list).and_then(Value::as_array_mut);
            for container in containers
                .into_iter()
                .flatten()
                .filter_map(Value::as_object_mut)
            {
                container.remove("image");
            }
        }
    }
    spec
}
