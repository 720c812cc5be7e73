//! The four kinds of patch.

use serde_json::Value;

use crate::{
    apply,
    cluster::{Cluster, Target, served},
    error::ApiError,
    object, strategic,
    time::UnixTime,
    validate,
    write::{Part, Written},
};

/// A patch as it came.
#[derive(Debug, Clone)]
pub enum Patch {
    /// `application/json-patch+json` (RFC 6902).
    Json(Value),
    /// `application/merge-patch+json` (RFC 7386).
    Merge(Value),
    /// `application/strategic-merge-patch+json`.
    Strategic(Value),
    /// `application/apply-patch+yaml`, carrying JSON.
    Apply {
        /// `fieldManager`.
        manager: String,
        /// Take over fields that other managers applied.
        force: bool,
        /// What this manager wants.
        object: Value,
    },
}

impl Cluster {
    /// Patches an object or its status; an apply creates what is missing.
    ///
    /// # Errors
    /// `BadRequest` for what is no patch, `PatchRejected` when one cannot be carried out, `Conflict`
    /// when it names an old resourceVersion or another manager's field, and those of an update.
    pub fn patch(
        &mut self,
        now: UnixTime,
        target: Target<'_>,
        part: Part,
        patch: &Patch,
    ) -> Result<Written, ApiError> {
        let Target {
            resource,
            namespace,
            name,
        } = target;
        if let Patch::Apply {
            manager,
            force,
            object,
        } = patch
        {
            let intent = apply::Intent {
                manager,
                force: *force,
                part,
            };
            return self.apply(now, target, &intent, object.clone());
        }
        let mut object = Value::clone(&*served(resource, self.stored(target)?));
        patched(target, patch, &mut object)?;
        validate::shape(resource, namespace, &mut object)?;
        let named = object::text(&object, "/metadata/name");
        if named != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({named}) does not match the name on the URL ({name})"
            )));
        }
        self.replace(target, part, object).map(Written::Updated)
    }
}

fn patched(target: Target<'_>, patch: &Patch, object: &mut Value) -> Result<(), ApiError> {
    let not_a_patch = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
    match patch {
        Patch::Json(operations) => {
            let operations: json_patch::Patch = serde_json::from_value(operations.clone())
                .map_err(|error| not_a_patch(error.to_string()))?;
            for operation in operations.0 {
                if !tests_for_absence(&operation, object) {
                    json_patch::patch(object, &[operation])
                        .map_err(|_| ApiError::patch_rejected())?;
                }
            }
            Ok(())
        }
        Patch::Merge(changes) if changes.is_object() => {
            json_patch::merge(object, changes);
            Ok(())
        }
        Patch::Strategic(Value::Object(changes)) => match object {
            Value::Object(fields) => strategic::merge(target.resource, fields, changes),
            _ => Ok(()),
        },
        _ => Err(not_a_patch("expected a JSON object".into())),
    }
}

/// A `test` for null holds where the field is absent. RFC 6902 has it fail; the API server lets it
/// pass, and clients that add a first finalizer count on that.
fn tests_for_absence(operation: &json_patch::PatchOperation, object: &Value) -> bool {
    let json_patch::PatchOperation::Test(test) = operation else {
        return false;
    };
    let path = test.path.as_str();
    let parent = path
        .rsplit_once('/')
        .and_then(|(parent, _)| object.pointer(parent));
    test.value.is_null() && parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}
