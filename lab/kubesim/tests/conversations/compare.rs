//! When two answers are the same: what every server chooses for itself is taken out first.

use serde_json::{Map, Value};

/// Fields whose values differ from server to server and run to run: that they are there is compared,
/// what they say is not.
const OWN: [&str; 9] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "continue",
    "clusterIP",
    "time",
    "remainingItemCount",
];
/// Fields that are not compared at all. `managedFields`: kubesim keeps ownership of applied fields only.
/// `selfLink`: gone since 1.20.
const IGNORED: [&str; 2] = ["managedFields", "selfLink"];

/// The answer without what is a server's own.
pub(crate) fn normalised(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !IGNORED.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), field(name, value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(normalised).collect(),
        plain => plain.clone(),
    }
}

fn field(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if OWN.contains(&name) && !text.is_empty() => "<own>".into(),
        Value::Number(_) if OWN.contains(&name) => "<own>".into(),
        Value::String(text) if text.to_lowercase().contains("resource version") => {
            without_numbers(text).into()
        }
        Value::String(text) if text.contains("UID in ") => without_uids(text).into(),
        other => normalised(other),
    }
}

fn without_numbers(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_digit());
    words
        .map(
            |word| match word.trim_end_matches(|c: char| !c.is_ascii_digit()) {
                "" => word.to_owned(),
                digits => word.replacen(digits, "N", 1),
            },
        )
        .collect()
}

/// `..., UID in object meta: <a UID>`.
fn without_uids(text: &str) -> String {
    let end = text.rfind(": ").map_or(text.len(), |at| at + 2);
    format!("{}<own>", &text[..end])
}

/// Where `found` does not say what `expected` says. Objects may say more; a list must have the same
/// elements; an expected null is a field that is not there.
pub(crate) fn missing(expected: &Value, found: &Value, at: &str, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(fields), Value::Object(there)) => {
            for (name, expected) in fields {
                let found = there.get(name).unwrap_or(&Value::Null);
                missing(expected, found, &format!("{at}/{name}"), out);
            }
        }
        (Value::Array(list), Value::Array(there)) if list.len() == there.len() => {
            for (index, (expected, found)) in list.iter().zip(there).enumerate() {
                missing(expected, found, &format!("{at}/{index}"), out);
            }
        }
        _ if expected == found => {}
        _ => out.push(format!("{at} is {found}, not {expected}")),
    }
}

/// Every path at which two normalised answers differ.
pub(crate) fn differences(ours: &Value, theirs: &Value, at: &str, out: &mut Vec<(String, String)>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let more = b.keys().filter(|name| !a.contains_key(*name));
            for name in a.keys().chain(more) {
                let side = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                differences(&side(a), &side(b), &format!("{at}/{name}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}/{index}"), out);
            }
        }
        _ if ours == theirs => {}
        _ => out.push((at.to_owned(), format!("ours {ours}, theirs {theirs}"))),
    }
}

#[test]
fn comparing_sees_what_differs_and_only_that() {
    use serde_json::json;
    let ours = json!({ "metadata": { "uid": "a", "name": "x" }, "list": [1, 2], "only": 1 });
    let theirs =
        json!({ "metadata": { "uid": "b", "name": "y", "managedFields": [] }, "list": [1] });
    let mut out = Vec::new();
    differences(&normalised(&ours), &normalised(&theirs), "", &mut out);
    let paths: Vec<_> = out.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/list", "/metadata/name", "/only"]);
    let mut out = Vec::new();
    missing(
        &json!({ "list": [1, 3], "gone": null }),
        &ours,
        "",
        &mut out,
    );
    assert_eq!(out, ["/list/1 is 2, not 3"]);
    let text = json!({ "message": "too old resource version: 12 (345)" });
    assert_eq!(
        normalised(&text)["message"],
        "too old resource version: N (N)"
    );
}
