//! A PodENI that is about to be edited.
//!
//! A record says which ENIs there are; an edit by hand would make the program detach or delete others, or
//! forget these.

use crd::keys;
use serde_json::{Value, json};

use super::review::{Answer, Request};

/// Whether it may be edited so: by anybody where nothing of the record changes, else by `writer` only.
pub(super) fn validate(request: &Request, writer: Option<&str>) -> Answer {
    if writer.is_none_or(|writer| request.user() == writer) {
        return Answer::unchanged();
    }
    let (old, new) = (record(&request.old_object), record(&request.object));
    match old.iter().zip(&new).find(|(old, new)| old != new) {
        None => Answer::unchanged(),
        Some(((what, _), _)) => Answer::denied(format!(
            "{what} of PodENI {}/{} is kept by the control plane and cannot be edited: delete the PodENI to \
             give its address up, change the PodNetworking for other ENIs",
            request.namespace, request.name
        )),
    }
}

/// What makes up the record, each with its name for people.
fn record(object: &Value) -> [(&'static str, Value); 7] {
    let meta = &object["metadata"];
    let finalizers = meta["finalizers"].as_array();
    let held = finalizers.is_some_and(|all| {
        let mut ours = all.iter().filter_map(Value::as_str);
        ours.any(|one| one == keys::FINALIZER || one == keys::FINALIZER_OLD)
    });
    [
        ("spec", object["spec"].clone()),
        (
            "label k8s.aliyun.com/node",
            meta["labels"][keys::NODE].clone(),
        ),
        (
            "annotation k8s.aliyun.com/pod-uid",
            meta["annotations"][keys::POD_UID].clone(),
        ),
        (
            "annotation network.alibabacloud.com/eni-attempts",
            meta["annotations"][keys::ENI_ATTEMPTS].clone(),
        ),
        (
            "annotation network.alibabacloud.com/eni-editions",
            meta["annotations"][keys::ENI_EDITIONS].clone(),
        ),
        (
            "annotation k8s.aliyun.com/node",
            meta["annotations"][keys::NODE].clone(),
        ),
        ("the finalizer", json!(held)),
    ]
}
