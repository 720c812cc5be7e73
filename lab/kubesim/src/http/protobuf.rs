//! Objects as `kubectl create configmap`, `namespace` and `serviceaccount` send them.
//!
//! Clients that know a type send it as protobuf without asking whether the server reads that, and the
//! verbs that people type are among them. Only these kinds are read, and a field that is not in the
//! tables is refused, never dropped. Numbers are those of the types' `generated.proto`.

use serde_json::{Map, Value};

/// Before every object.
const MAGIC: &[u8] = b"k8s\0";

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Texts,
    /// Texts by name.
    Named,
    Message(&'static [Field]),
    /// Nothing that a new object keeps.
    Nothing,
}

type Field = (u64, &'static str, Holds);

/// `runtime.Unknown`, around the object.
const TYPE: u64 = 1;
const RAW: u64 = 2;
const TYPE_META: &[Field] = &[(1, "apiVersion", Holds::Text), (2, "kind", Holds::Text)];

const META: &[Field] = &[
    (1, "name", Holds::Text),
    (2, "generateName", Holds::Text),
    (3, "namespace", Holds::Text),
    (4, "selfLink", Holds::Text),
    (5, "uid", Holds::Text),
    (6, "resourceVersion", Holds::Text),
    (7, "generation", Holds::Nothing),
    (8, "creationTimestamp", Holds::Nothing),
    (11, "labels", Holds::Named),
    (12, "annotations", Holds::Named),
    (14, "finalizers", Holds::Texts),
];
const CONFIG_MAP: &[Field] = &[
    (1, "metadata", Holds::Message(META)),
    (2, "data", Holds::Named),
];
const NAMESPACE: &[Field] = &[
    (1, "metadata", Holds::Message(META)),
    (2, "spec", Holds::Message(&[])),
    (3, "status", Holds::Message(&[(1, "phase", Holds::Text)])),
];
const SERVICE_ACCOUNT: &[Field] = &[(1, "metadata", Holds::Message(META))];

/// The object in `bytes`; `None` when it is of another kind, has a field that is not read, or is cut.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    let (mut kind, mut object) = (Value::Null, None);
    for (number, content) in fields(bytes.strip_prefix(MAGIC)?)? {
        match number {
            TYPE => kind = message(content?, TYPE_META)?,
            RAW => object = content,
            _ => {}
        }
    }
    let known = match (kind["apiVersion"].as_str()?, kind["kind"].as_str()?) {
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "ServiceAccount") => SERVICE_ACCOUNT,
        _ => return None,
    };
    let mut object = message(object?, known)?;
    object["apiVersion"] = kind["apiVersion"].take();
    object["kind"] = kind["kind"].take();
    Some(object)
}

fn message(bytes: &[u8], known: &[Field]) -> Option<Value> {
    let mut object = Map::new();
    for (number, content) in fields(bytes)? {
        let (_, name, holds) = known.iter().find(|(known, ..)| *known == number)?;
        let slot = |object: &mut Map<String, Value>, empty: Value| -> Option<()> {
            object.entry(*name).or_insert(empty);
            Some(())
        };
        match holds {
            Holds::Nothing => {}
            // What is not set is sent empty.
            Holds::Text if content?.is_empty() => {}
            Holds::Text => drop(object.insert((*name).to_owned(), text(content?)?)),
            Holds::Message(known) => {
                object.insert((*name).to_owned(), message(content?, known)?);
            }
            Holds::Texts => {
                slot(&mut object, Value::Array(Vec::new()))?;
                object[*name].as_array_mut()?.push(text(content?)?);
            }
            Holds::Named => {
                const ENTRY: &[Field] = &[(1, "name", Holds::Text), (2, "text", Holds::Text)];
                let mut entry = message(content?, ENTRY)?;
                slot(&mut object, Value::Object(Map::new()))?;
                let text = match entry["text"].take() {
                    Value::Null => "".into(),
                    text => text,
                };
                object[*name][entry["name"].as_str()?] = text;
            }
        }
    }
    Some(object.into())
}

fn text(bytes: &[u8]) -> Option<Value> {
    Some(std::str::from_utf8(bytes).ok()?.into())
}

/// A field as it was sent: its number, and its bytes if it has a length.
type Sent<'a> = (u64, Option<&'a [u8]>);

fn fields(mut bytes: &[u8]) -> Option<Vec<Sent<'_>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                None
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Some(content)
            }
            _ => return None,
        };
        all.push((tag >> 3, content));
    }
    Some(all)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [
            &[number << 3 | 2, u8::try_from(content.len()).unwrap()],
            content,
        ]
        .concat()
    }

    fn sent(kind: &str, object: &[u8]) -> Vec<u8> {
        let kind = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC, &field(1, &kind), &field(2, object), &field(3, b"")].concat()
    }

    #[test]
    fn what_kubectl_sends_is_read_whole_or_not_at_all() {
        let entry = [field(1, b"a"), field(2, b"1")].concat();
        let meta = [
            field(1, b"m"),
            field(2, b""),
            field(8, b""),
            field(11, &entry),
        ]
        .concat();
        let map = [field(1, &meta), field(2, &entry)].concat();
        let whole = sent("ConfigMap", &map);
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "m", "labels": { "a": "1" } }, "data": { "a": "1" },
        });
        assert_eq!(read(&whole), Some(expected));
        assert_eq!(read(&sent("Pod", &map)), None, "another kind");
        let more = [map, field(3, &entry)].concat();
        assert_eq!(
            read(&sent("ConfigMap", &more)),
            None,
            "binaryData is not read"
        );
        for cut in 0..whole.len() - 2 {
            assert_eq!(read(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
