//! Reading and tidying untyped objects.
//!
//! Knows the shape every object shares (`metadata`), nothing of any one kind.

use serde_json::{Map, Value};

/// The text at a JSON pointer, or empty: the API treats an absent string and `""` alike.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The elements at a JSON pointer, or none.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Entries of the map at a JSON pointer, or none.
pub(crate) fn entries<'a>(
    object: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// `metadata`, made if the object has none.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// The map under `key`, made if it is missing or something else.
pub(crate) fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object[key].is_object() {
        object[key] = Value::Object(Map::new());
    }
    match &mut object[key] {
        Value::Object(map) => map,
        _ => unreachable!("made a map just above"),
    }
}

/// Sets `key` where it is absent.
pub(crate) fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.entry(key).or_insert_with(|| value.into());
}

/// Copies `key` from `from`, or removes it where `from` has none.
pub(crate) fn copy(to: &mut Map<String, Value>, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => to.insert(key.to_owned(), value.clone()),
        None => to.remove(key),
    };
}

/// Drops what typed storage never keeps: nulls anywhere, and empty collections in `metadata`.
pub(crate) fn normalise(object: &mut Value) {
    strip_nulls(object);
    let meta = metadata(object);
    for key in [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
    ] {
        let empty = match meta.get(key) {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            _ => false,
        };
        if empty {
            meta.remove(key);
        }
    }
    meta.remove("selfLink");
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}
