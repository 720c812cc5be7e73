//! A PodNetworking that is about to be written.

use crd::{FieldError, PodNetworking, keys};
use engine::admission::{Admitted, admit_networking, deletion_warning};
use model::podnetworking::PodNetworking as Networking;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    review::{Answer, Request},
    standing::Known,
};

/// Why it cannot be judged.
#[derive(Debug, thiserror::Error)]
enum NetworkingError {
    /// Not of this form.
    #[error("the PodNetworking cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// A field that cannot mean anything.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Against a rule.
    #[error("{0}")]
    Rule(String),
}

/// Fills in what it leaves open. What is wrong with it is said when it is validated.
pub(super) fn mutate(request: &Request, known: &Known) -> Answer {
    let Ok(admitted) = judge(request, known) else {
        return Answer::unchanged();
    };
    let texts = |ids: Vec<String>| Value::from(ids);
    let new = &admitted.networking;
    let filled = [
        (
            "/spec/vSwitchOptions",
            texts(new.vswitches.iter().map(ToString::to_string).collect()),
        ),
        (
            "/spec/securityGroupIDs",
            texts(
                new.security_groups
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
        ),
    ];
    let changed = filled
        .into_iter()
        .filter(|(at, value)| request.object.pointer(at) != Some(value));
    let patch = changed.map(|(at, value)| json!({"op": "add", "path": at, "value": value}));
    Answer::allowed(patch.collect(), Vec::new())
}

/// Whether it may be written so.
pub(super) fn validate(request: &Request, known: &Known) -> Answer {
    let (new, old) = (&request.object, &request.old_object);
    let leaving = new.pointer("/metadata/deletionTimestamp");
    // An object from before a rule must stay deletable and labellable.
    let same = new["spec"] == old["spec"] && warm(new) == warm(old);
    if same || leaving.is_some_and(|at| !at.is_null()) {
        return Answer::unchanged();
    }
    match judge(request, known) {
        Ok(admitted) => Answer::allowed(Vec::new(), admitted.warnings),
        Err(error) => Answer::denied(error),
    }
}

/// It is deleted: its users are named.
pub(super) fn leave(request: &Request, known: &Known) -> Answer {
    let used = known.users.of(&request.name);
    let networking = known.networkings.get(&request.name);
    let warning = used.map(|(pods, one)| deletion_warning(&request.name, networking, pods, &one));
    Answer::allowed(Vec::new(), warning.into_iter().collect())
}

/// What it says about ENIs kept ready.
fn warm(object: &Value) -> [&Value; 2] {
    let annotations = &object["metadata"]["annotations"];
    [keys::WARM_MEMBERS_PER_NODE, keys::WARM_ENIS_PER_ZONE].map(|key| &annotations[key])
}

fn judge(request: &Request, known: &Known) -> Result<Admitted, NetworkingError> {
    let new = read(&request.object)?;
    // What an older program let in and cannot be read is compared with nothing.
    let old = read(&request.old_object).ok();
    let zones = known.zones();
    admit_networking(old.as_ref(), new, &known.standing(&zones)).map_err(NetworkingError::Rule)
}

fn read(object: &Value) -> Result<Networking, NetworkingError> {
    let stored = PodNetworking::deserialize(object)?;
    stored.warm()?;
    Ok(Networking::try_from(&stored)?)
}
