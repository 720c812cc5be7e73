//! The `binding` subresource: how a scheduler gives a pod to a node.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Target},
    error::{ApiError, Named},
    object,
    registry::PODS,
    time::{UnixTime, rfc3339},
    write::check_uid,
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
            return Err(ApiError::invalid(&PODS, name, &[cause]));
        }
        let mut pod = Value::clone(self.stored(target)?);
        let uid = object::text(binding, "/metadata/uid");
        check_uid(target, uid, object::text(&pod, "/metadata/uid"))?;
        let bound = object::text(&pod, "/spec/nodeName");
        let why = if !object::text(&pod, "/metadata/deletionTimestamp").is_empty() {
            format!("pod {name} is being deleted, cannot be assigned to a host")
        } else if !bound.is_empty() {
            format!("pod {name} is already assigned to node {bound:?}")
        } else {
            String::new()
        };
        if !why.is_empty() {
            return Err(ApiError::conflict(&PODS, Named::Binding, name, &why));
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
