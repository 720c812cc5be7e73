//! The two shapes of an event: core/v1, in which it is stored, and events.k8s.io/v1.

use serde_json::Value;

use crate::registry::{EVENTS, EVENTS_V1, Resource};

/// Core name and events.k8s.io name of the fields that differ.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Turns a client's object into the stored shape.
pub(crate) fn to_stored(resource: &Resource, event: &mut Value) {
    if resource == &EVENTS_V1 {
        rename(
            event,
            RENAMED.iter().map(|&(core, newer)| (newer, core)),
            &EVENTS,
        );
    }
}

/// Turns a stored object into what `resource` serves.
pub(crate) fn to_served(resource: &Resource, event: &mut Value) {
    if resource == &EVENTS_V1 {
        rename(event, RENAMED.iter().copied(), &EVENTS_V1);
    }
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>, to: &Resource) {
    let Some(fields) = event.as_object_mut() else {
        return;
    };
    for (from, to) in names {
        if let Some(value) = fields.remove(from).filter(|value| value != "") {
            fields.insert(to.to_owned(), value);
        }
    }
    // The newer shape leaves out what is empty.
    fields.retain(|_, value| value != "");
    fields.insert("apiVersion".into(), to.api_version().into());
}
