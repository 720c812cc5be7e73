//! The `binding` subresource: how a scheduler gives a pod to a node.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Target},
    error::ApiError,
    object,
    registry::PODS,
    time::{UnixTime, rfc3339},
    write::{check_uid, invalid},
};

impl Cluster {
    /// Binds a pod as a `Binding` body says. Like the API server it does not ask whether the node
    /// exists.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` without a node, `Conflict` when the pod has a node or is going.
    pub fn bind(
        &mut self,
        now: UnixTime,
        namespace: &str,
        name: &str,
        binding: &Value,
    ) -> Result<(), ApiError> {
        let target = Target {
            resource: &PODS,
            namespace,
            name,
        };
        let node = object::text(binding, "/target/name");
        if node.is_empty() {
            let cause = crate::Cause::required("target.name", "");
            return Err(invalid(&PODS, name, vec![cause]));
        }
        let mut pod = Value::clone(self.stored(target)?);
        let uid = object::text(binding, "/metadata/uid");
        check_uid(target, uid, object::text(&pod, "/metadata/uid"))?;
        let conflict = |why: String| ApiError::Conflict {
            resource: &PODS,
            subresource: "/binding",
            name: name.to_owned(),
            why,
        };
        if !object::text(&pod, "/metadata/deletionTimestamp").is_empty() {
            return Err(conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        let bound = object::text(&pod, "/spec/nodeName");
        if !bound.is_empty() {
            return Err(conflict(format!(
                "pod {name} is already assigned to node {bound:?}"
            )));
        }
        object::child(&mut pod, "spec").insert("nodeName".into(), node.into());
        let status = object::child(&mut pod, "status");
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        if let Some(list) = conditions.as_array_mut() {
            list.retain(|condition| condition["type"] != "PodScheduled");
            list.push(json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": rfc3339(now),
            }));
        }
        object::normalise(&mut pod);
        self.put(target.key(), pod);
        Ok(())
    }
}
