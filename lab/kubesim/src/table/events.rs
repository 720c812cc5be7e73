//! The event row, from an event in its stored shape.

use serde_json::Value;

use super::{Column, since};
use crate::{object::text, time::UnixTime};

pub(super) const COLUMNS: [Column; 10] = [
    ("Last Seen", "string", 0),
    ("Type", "string", 0),
    ("Reason", "string", 0),
    ("Object", "string", 0),
    ("Subobject", "string", 1),
    ("Source", "string", 1),
    ("Message", "string", 0),
    ("First Seen", "string", 1),
    ("Count", "string", 1),
    ("Name", "string", 1),
];

pub(super) fn cells(now: UnixTime, event: &Value) -> Vec<Value> {
    let first_set = |pointers: &[&str]| {
        let at = pointers
            .iter()
            .map(|p| text(event, p))
            .find(|t| !t.is_empty());
        since(now, at.unwrap_or_default())
    };
    let first = first_set(&["/firstTimestamp", "/eventTime"]);
    let last = first_set(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/firstTimestamp",
        "/eventTime",
    ]);
    let count = event
        .pointer("/series/count")
        .or_else(|| event.get("count"));
    let (kind, name) = (
        text(event, "/involvedObject/kind").to_lowercase(),
        text(event, "/involvedObject/name"),
    );
    let object = if name.is_empty() {
        kind
    } else {
        format!("{kind}/{name}")
    };
    vec![
        last.into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        first.into(),
        count
            .and_then(Value::as_u64)
            .filter(|&n| n > 0)
            .unwrap_or(1)
            .into(),
        text(event, "/metadata/name").into(),
    ]
}

fn source(event: &Value) -> String {
    let first = |pointers: [&str; 2]| {
        pointers
            .into_iter()
            .map(|p| text(event, p))
            .find(|t| !t.is_empty())
            .unwrap_or_default()
    };
    let component = first(["/source/component", "/reportingComponent"]);
    match first(["/source/host", "/reportingInstance"]) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}
