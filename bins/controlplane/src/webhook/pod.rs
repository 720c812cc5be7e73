//! A pod that is about to be created.

use crd::pod::{Networks, has_stable_name, is_ignored, is_of_daemon_set};
use engine::admission::{Additions, Asked, Named, NewPod, Verdict, admit_pod};
use k8s_openapi::api::core::v1::Pod;
use model::PodKey;
use serde::Deserialize;

use super::{
    patch,
    review::{Answer, Request},
    standing::{Known, Lookup, LookupError},
};

/// What is answered for a pod.
pub(super) async fn mutate(request: &Request, known: &Known, lookup: &impl Lookup) -> Answer {
    let read = Pod::deserialize(&request.object);
    let pod = match read {
        Ok(pod) => pod,
        Err(error) => return Answer::denied(format!("the pod cannot be read: {error}")),
    };
    let Some(new) = facts(&pod, known) else {
        return Answer::unchanged();
    };
    let new = match new {
        Ok(new) => new,
        Err(why) => return Answer::Denied(why),
    };
    match decide(new, request, known, lookup).await {
        Ok(Verdict::Unchanged(warnings)) => Answer::allowed(Vec::new(), warnings),
        Ok(Verdict::Denied(why)) => Answer::Denied(why),
        Ok(Verdict::Changed(additions)) => {
            let patch = patch::of(&request.object, &additions);
            Answer::allowed(patch, additions.warnings)
        }
        // Without the answer a pod with a fixed address could be sent to a zone it cannot run in.
        Err(error) => Answer::denied(format!("{error}; try again")),
    }
}

/// What decisions know of the pod; nothing when it is none of theirs, whatever its annotations say.
fn facts(pod: &Pod, known: &Known) -> Option<Result<NewPod, String>> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
    let host_network = spec.host_network.unwrap_or_default();
    if host_network || is_ignored(meta) || spec.containers.is_empty() {
        return None;
    }
    let networks = match Networks::read(meta.annotations.as_ref()) {
        Ok(networks) => networks,
        Err(error) => return Some(Err(error.to_string())),
    };
    let owners = meta.owner_references.as_deref();
    Some(Ok(NewPod {
        labels: meta.labels.clone().unwrap_or_default(),
        namespace_labels: Default::default(),
        host_network,
        ignored: false,
        wants_eni: networks.wants_eni,
        stable_name: has_stable_name(owners, &known.stateful_kinds),
        of_daemon_set: is_of_daemon_set(meta),
        asked: asked(networks),
        previous_zone: None,
    }))
}

fn asked(networks: Networks) -> Vec<Asked> {
    let named = |one: crd::pod::NamedNetwork| Named {
        interface: one.interface,
        networking: one.networking,
        default_route: one.default_route,
        routes: one.routes,
    };
    let mut all = Vec::new();
    all.extend(networks.networking.map(Asked::Networking));
    if !networks.full.is_empty() {
        all.push(Asked::Networks(networks.full));
    }
    if !networks.named.is_empty() {
        let named = networks.named.into_iter().map(named);
        all.push(Asked::Named(named.collect()));
    }
    all
}

/// Decides with no more questions to the API server than the pod needs: most pods need none.
async fn decide(
    mut new: NewPod,
    request: &Request,
    known: &Known,
    lookup: &impl Lookup,
) -> Result<Verdict, LookupError> {
    let zones = known.zones();
    let standing = known.standing(&zones);
    let mut all = known.networkings.values();
    if new.asked.is_empty() && all.any(|one| one.namespaces.is_some()) {
        new.namespace_labels = lookup.labels(&request.namespace).await?;
    }
    let verdict = admit_pod(&new, &standing);
    let keeps = |additions: &Additions| additions.networks.iter().any(|one| one.tenure.is_fixed());
    let Verdict::Changed(additions) = &verdict else {
        return Ok(verdict);
    };
    let name = PodKey::new(&request.namespace, name(request));
    if let (true, Ok(key)) = (keeps(additions), name) {
        new.previous_zone = lookup.kept_zone(&key).await?;
        return Ok(admit_pod(&new, &standing));
    }
    Ok(verdict)
}

/// The pod's name; none when the API server is still to make one up.
fn name(request: &Request) -> &str {
    match request.name.as_str() {
        "" => {
            let name = request.object.pointer("/metadata/name");
            name.and_then(|name| name.as_str()).unwrap_or_default()
        }
        name => name,
    }
}
