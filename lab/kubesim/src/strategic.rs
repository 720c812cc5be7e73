//! Strategic merge patch: a merge patch that knows which lists are sets and by which key.
//!
//! The keys are those of the types' `patchMergeKey` tags. Directives: `$patch` (replace, delete),
//! `$retainKeys`, `$deleteFromPrimitiveList/…` and `$setElementOrder/…`.

use serde_json::{Map, Value};

use crate::{error::ApiError, registry::Resource};

const ORDER: &str = "$setElementOrder/";
const DELETE_VALUES: &str = "$deleteFromPrimitiveList/";

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// A set of plain values.
    Values,
    /// A set of maps told apart by this field.
    Keyed(&'static str),
}

/// How the list `field` merges in objects of `resource`.
pub(crate) fn list_kind(resource: &Resource, field: &str) -> ListKind {
    // Lists of a custom resource are atomic, those of its metadata are as everywhere.
    if resource.custom.is_some() && !matches!(field, "finalizers" | "ownerReferences") {
        return ListKind::Atomic;
    }
    match field {
        "finalizers" | "podCIDRs" => ListKind::Values,
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets"
        | "schedulingGates"
        | "resourceClaims" => ListKind::Keyed("name"),
        "conditions" => ListKind::Keyed("type"),
        "addresses" if resource == &crate::registry::NODES => ListKind::Keyed("type"),
        "ports" if resource.kind == "Service" => ListKind::Keyed("port"),
        "ports" => ListKind::Keyed("containerPort"),
        "ownerReferences" => ListKind::Keyed("uid"),
        "podIPs" | "hostIPs" | "hostAliases" => ListKind::Keyed("ip"),
        "volumeMounts" => ListKind::Keyed("mountPath"),
        "volumeDevices" => ListKind::Keyed("devicePath"),
        "topologySpreadConstraints" => ListKind::Keyed("topologyKey"),
        _ => ListKind::Atomic,
    }
}

/// Merges `patch` into `base`.
///
/// # Errors
/// `BadRequest` for a directive or a list element that makes no sense.
pub(crate) fn merge(
    resource: &Resource,
    base: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), ApiError> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *base = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            base.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(bad(format!("Unknown patch type found: {other}"))),
    }
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        base.retain(|key, _| keep.iter().any(|k| k.as_str() == Some(key)));
    }
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        match value {
            Value::Null => {
                base.remove(field);
            }
            Value::Object(inner) => {
                let slot = base
                    .entry(field.as_str())
                    .or_insert_with(|| Map::new().into());
                if !slot.is_object() {
                    *slot = Map::new().into();
                }
                if let Value::Object(slot) = slot {
                    merge(resource, slot, inner)?;
                }
                if inner.get("$patch").and_then(Value::as_str) == Some("delete") {
                    base.remove(field);
                }
            }
            Value::Array(elements) => {
                let order = patch.get(&format!("{ORDER}{field}"));
                let order = order.and_then(Value::as_array).unwrap_or(elements);
                merge_list(resource, base, field, elements, order)?;
            }
            plain => {
                base.insert(field.clone(), plain.clone());
            }
        }
    }
    for (field, values) in directives(patch, DELETE_VALUES) {
        if let Some(list) = base.get_mut(field).and_then(Value::as_array_mut) {
            list.retain(|element| !values.contains(element));
        }
    }
    Ok(())
}

/// The directives of one kind: which field, which values.
fn directives<'a>(
    patch: &'a Map<String, Value>,
    prefix: &str,
) -> impl Iterator<Item = (&'a str, &'a [Value])> {
    patch.iter().filter_map(move |(directive, values)| {
        Some((
            directive.strip_prefix(prefix)?,
            values.as_array()?.as_slice(),
        ))
    })
}

fn merge_list(
    resource: &Resource,
    base: &mut Map<String, Value>,
    field: &str,
    elements: &[Value],
    order: &[Value],
) -> Result<(), ApiError> {
    let replaces = |element: &Value| element.get("$patch") == Some(&"replace".into());
    let kind = list_kind(resource, field);
    if kind == ListKind::Atomic || elements.iter().any(replaces) {
        let whole = elements.iter().filter(|e| !replaces(e)).cloned().collect();
        base.insert(field.to_owned(), Value::Array(whole));
        return Ok(());
    }
    let slot = base
        .entry(field)
        .or_insert_with(|| Value::Array(Vec::new()));
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    let Value::Array(list) = slot else {
        return Ok(());
    };
    let live = list.clone();
    for element in elements {
        let ListKind::Keyed(key) = kind else {
            if !list.contains(element) {
                list.push(element.clone());
            }
            continue;
        };
        let Some((fields, id)) = element.as_object().and_then(|f| Some((f, f.get(key)?))) else {
            // The API server takes this for a fault of its own.
            return Err(ApiError::internal(format!(
                "map: {element} does not contain declared merge key: {key}"
            )));
        };
        let place = list
            .iter()
            .position(|existing| existing.get(key) == Some(id));
        if fields.get("$patch") == Some(&"delete".into()) {
            place.map(|at| list.remove(at));
        } else if let Some(Value::Object(existing)) = place.and_then(|at| list.get_mut(at)) {
            merge(resource, existing, fields)?;
        } else {
            let mut fresh = Map::new();
            merge(resource, &mut fresh, fields)?;
            list.push(fresh.into());
        }
    }
    let place = |of: &[Value], element: &Value| {
        of.iter().position(|other| match kind {
            ListKind::Keyed(key) => other.get(key) == element.get(key),
            _ => other == element,
        })
    };
    *list = arranged(
        std::mem::take(list),
        |e| place(order, e),
        |e| place(&live, e),
    );
    Ok(())
}

/// The API server's order of a merged list: what the patch names in the patch's order, and what was
/// only there before put in between, each before the first that followed it then.
fn arranged(
    list: Vec<Value>,
    in_patch: impl Fn(&Value) -> Option<usize>,
    before: impl Fn(&Value) -> Option<usize>,
) -> Vec<Value> {
    let (mut named, others): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|e| in_patch(e).is_some());
    named.sort_by_key(&in_patch);
    let mut from = 0;
    for other in others {
        let follows = |e: &Value| before(e).is_some_and(|at| Some(at) > before(&other));
        let at = named[from..].iter().position(follows);
        let at = at.map_or(named.len(), |at| from + at);
        named.insert(at, other);
        from = at + 1;
    }
    named
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(k, _)| !k.starts_with('$'))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn bad(why: String) -> ApiError {
    ApiError::bad_request(why)
}
