//! The shape of an answer: which fields it has and of which type, without their values. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// Path of a field, `A.B[].C`, and the types it was seen with.
pub(crate) type Shape = BTreeMap<String, String>;

/// Shapes by what was asked.
pub(crate) type Shapes = BTreeMap<String, Shape>;

/// Fields that the cloud may add are named up to here; more are counted.
const ADDED_NAMED_MAX: usize = 6;

/// The shape of `document`. A list's elements share one path.
pub(crate) fn of(document: &Value) -> Shape {
    let mut shape = Shape::new();
    walk(String::new(), document, &mut shape);
    shape
}

fn walk(path: String, value: &Value, shape: &mut Shape) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    if !path.is_empty() {
        let known = shape.entry(path.clone()).or_default();
        if !known.split('|').any(|one| one == kind) {
            if !known.is_empty() {
                known.push('|');
            }
            known.push_str(kind);
        }
    }
    match value {
        Value::Array(items) => {
            for item in items {
                walk(format!("{path}[]"), item, shape);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                walk(below, field, shape);
            }
        }
        _ => {}
    }
}

/// How a real answer differs from the lab's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What the lab has and the cloud does not, or has with another type: the lab must be mended.
    pub(crate) wrong: Vec<String>,
    /// What only the cloud has.
    pub(crate) added: Vec<String>,
}

impl Difference {
    /// In words.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = self.wrong.clone();
        if !self.added.is_empty() {
            let named: Vec<&str> = self
                .added
                .iter()
                .take(ADDED_NAMED_MAX)
                .map(String::as_str)
                .collect();
            let more = self.added.len() - named.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            words.push(format!("only in the cloud: {}{more}", named.join(", ")));
        }
        words
    }
}

/// Compares what the cloud answered with what the lab answers.
pub(crate) fn compare(lab: &Shape, cloud: &Shape) -> Difference {
    let mut difference = Difference::default();
    for (path, kind) in lab {
        match cloud.get(path) {
            Some(found) if overlap(found, kind) => {}
            Some(found) => difference
                .wrong
                .push(format!("{path} is {found}, in the lab {kind}")),
            // Below an empty list, or below what is missing itself, nothing more can be missing.
            None if path.ends_with("[]") || !has_parent(path, cloud) => {}
            None => difference.wrong.push(format!("{path} is missing")),
        }
    }
    let added = cloud.keys().filter(|path| !lab.contains_key(*path));
    let added = added.filter(|path| has_parent(path, lab) && !path.ends_with("[]"));
    difference.added = added.cloned().collect();
    difference
}

fn overlap(one: &str, other: &str) -> bool {
    one.split('|')
        .any(|kind| other.split('|').any(|also| also == kind))
}

fn has_parent(path: &str, shape: &Shape) -> bool {
    match path.rsplit_once('.') {
        None => true,
        Some((parent, _)) => shape.contains_key(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_other_and_added_fields_are_told_apart() {
        let lab = of(&json!({ "A": "x", "B": { "C": [{ "D": 1, "E": "x" }] }, "F": [] }));
        let cloud =
            of(&json!({ "A": 1, "B": { "C": [{ "D": 1 }, { "D": null, "G": true }] }, "H": {} }));
        let difference = compare(&lab, &cloud);
        assert_eq!(
            difference.wrong,
            [
                "A is number, in the lab string",
                "B.C[].E is missing",
                "F is missing"
            ]
        );
        assert_eq!(difference.added, ["B.C[].G", "H"]);
    }

    #[test]
    fn an_empty_list_says_nothing_about_its_elements() {
        let full = of(&json!({ "T": { "Tag": [{ "K": "x" }] } }));
        let empty = of(&json!({ "T": { "Tag": [] } }));
        assert_eq!(compare(&full, &empty), Difference::default());
        assert_eq!(compare(&empty, &full), Difference::default());
    }
}
