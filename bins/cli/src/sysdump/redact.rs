//! Takes secrets out of what is to be sent to somebody else.
//!
//! Three nets, one behind the other: values under telling names, in JSON however deeply it is quoted
//! inside other JSON; words of a telling form or after a telling name, in any text; and every secret
//! the first two found, wherever else it stands. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// What stands where a secret was.
const HIDDEN: &str = "[redacted]";

/// Parts of names, in lower case and without `_`, `-` and `.`, whose values are secret.
const TELLING: [&str; 12] = [
    "accesskey",
    "accesssecret",
    "secretkey",
    "keysecret",
    "password",
    "passwd",
    "token",
    "signature",
    "authorization",
    "credential",
    "privatekey",
    "clientsecret",
];

/// Names that hold a telling part, and name something that is no secret.
const HARMLESS: [&str; 9] = [
    "credentialpath",
    "automountserviceaccounttoken",
    "serviceaccounttoken",
    "clienttoken",
    "nexttoken",
    "secretkeyref",
    "secretname",
    "signaturemethod",
    "signatureversion",
];

/// Shortest value that is hidden wherever it stands: shorter ones would blot out common words.
const SECRET_LENGTH_MIN: usize = 8;

/// The same for a word of a log: `token: expired` is no reason to hide every `expired`.
const WORD_LENGTH_MIN: usize = 12;

/// Secrets that are looked for everywhere. More are hidden where they were found; 1,000 are ten
/// keys an agent's log, and looking for them in a full archive takes seconds.
const KNOWN_MAX: usize = 1000;

/// JSON inside JSON inside ... more levels than an annotation of a ConfigMap of JSON has.
const DEPTH_MAX: u32 = 32;

/// Hides secrets, and remembers them.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    known: BTreeSet<String>,
}

impl Redactor {
    /// `text`, be it JSON or a log, without its secrets. What was found here is remembered for
    /// [`Redactor::everywhere`].
    pub(crate) fn text(&mut self, text: &str) -> String {
        self.any(text, 0)
    }

    /// `text` with only words of a telling form hidden, whatever their names.
    pub(crate) fn forms(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let (word, tail) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
            let (gap, tail) = tail.split_at(tail.find(is_word).unwrap_or(tail.len()));
            if is_key(word) {
                self.remember(word, WORD_LENGTH_MIN);
                out.push_str(HIDDEN);
            } else {
                out.push_str(word);
            }
            out.push_str(gap);
            rest = tail;
        }
        out
    }

    /// `text` without any secret that was found anywhere. The last step, when all has been seen.
    pub(crate) fn everywhere(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longest first: one secret may begin another.
        let mut known: Vec<&String> = self.known.iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in known {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        text
    }

    fn any(&mut self, text: &str, depth: u32) -> String {
        let start = text.trim_start();
        if depth < DEPTH_MAX
            && start.starts_with(['{', '['])
            && let Ok(mut inner) = serde_json::from_str::<Value>(text)
        {
            self.value(&mut inner, depth + 1);
            return inner.to_string();
        }
        let lines: Vec<String> = text.split('\n').map(|line| self.line(line)).collect();
        lines.join("\n")
    }

    fn value(&mut self, value: &mut Value, depth: u32) {
        match value {
            Value::String(text) => *text = self.any(text, depth),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, depth)),
            Value::Object(fields) => {
                // A container's environment: the name stands beside the value.
                let named = fields
                    .get("name")
                    .and_then(Value::as_str)
                    .is_some_and(is_telling);
                for (name, field) in fields.iter_mut() {
                    if is_telling(name) || (named && name == "value") {
                        self.hide(field);
                    } else {
                        self.value(field, depth);
                    }
                }
            }
            _ => {}
        }
    }

    /// Hides all text and numbers below `value`.
    fn hide(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => {
                self.remember(text, SECRET_LENGTH_MIN);
                HIDDEN.clone_into(text);
            }
            Value::Number(_) => *value = HIDDEN.into(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.hide(field)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn remember(&mut self, secret: &str, shortest: usize) {
        if secret.len() >= shortest && self.known.len() < KNOWN_MAX {
            self.known.insert(secret.to_owned());
        }
    }

    /// A line of text: words after telling names, and words of a telling form.
    fn line(&mut self, line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        // Whether the next word is a secret's, because of the name before it.
        let mut expected = false;
        while !rest.is_empty() {
            let ends = |c: char| if expected { is_end(c) } else { !is_word(c) };
            let end = rest.find(ends).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            let gap_end = tail.find(is_word).unwrap_or(tail.len());
            let (gap, tail) = tail.split_at(gap_end);
            if expected && word.eq_ignore_ascii_case("bearer") {
                out.push_str(word);
            } else if (expected && !word.is_empty()) || is_key(word) {
                self.remember(word, WORD_LENGTH_MIN);
                out.push_str(HIDDEN);
                expected = false;
            } else {
                out.push_str(word);
                expected = is_telling(word) && gap.contains(['=', ':']) || word == "Bearer";
            }
            out.push_str(gap);
            rest = tail;
        }
        out
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-.+/~%".contains(character)
}

/// Where a secret after its name ends: it may hold any other character.
fn is_end(character: char) -> bool {
    character.is_whitespace() || "\"'`&,;)}]\\".contains(character)
}

/// Whether `name` names a secret.
fn is_telling(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let harmless = HARMLESS.iter().any(|name| plain.ends_with(name));
    !harmless && TELLING.iter().any(|part| plain.contains(part))
}

/// Whether `word` has the form of a key or token: an AccessKey id, a temporary one, or a JSON web token.
fn is_key(word: &str) -> bool {
    const FORMS: [(&str, usize); 3] = [("LTAI", 12), ("STS.", 12), ("eyJ", 40)];
    FORMS
        .iter()
        .any(|(start, length)| word.starts_with(start) && word.len() >= *length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECRETS: [&str; 8] = [
        "LTAI5tRealKeyIdentifier",
        "hush+hush/verysecret30charslongxy",
        "STS.NTabcdefgh1234567",
        "CAISsecurityTokenOfTheRole",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl",
        "correct-horse-battery",
        "c2lnbmF0dXJlb2ZyZXF1ZXN0",
        "9876543210",
    ];

    fn crafted() -> Vec<String> {
        let [id, secret, sts, token, jwt, password, signature, number] = SECRETS;
        let conf = json!({ "access_key": id, "access_secret": secret, "vswitches": { "z": ["vsw-1"] },
            "nested": { "credentials": [{ "deep": password }], "token": number.parse::<u64>().unwrap() } });
        let map = json!({ "kind": "ConfigMap", "data": { "eni_conf": conf.to_string() } });
        let annotated = json!({ "metadata": { "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": map.to_string() } } });
        let set = json!({ "env": [
            { "name": "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "value": secret },
            { "name": "RUST_LOG", "value": "info" }] });
        vec![
            map.to_string(),
            annotated.to_string(),
            set.to_string(),
            // A ConfigMap somebody broke by hand.
            json!({ "data": { "eni_conf": format!("{{\"access_secret\": \"{secret}\",, \"x\"") } })
                .to_string(),
            format!("2026 WARN AccessKeyId={id}&SecurityToken={token}&Signature={signature}%3D"),
            format!("INFO key {sts} used, Authorization: Bearer {jwt}"),
            format!("a line that quotes {secret} without a name"),
            format!("password: {password}, and odd=p@ss password=p@ss=word!{number}x"),
            format!("{{\"level\":\"info\",\"access_secret\":\"{secret}\"\n cut json"),
            format!("error=signing as {id}; token expired"),
            "number 9876543210 stays only if nobody called it a token".into(),
        ]
    }

    #[test]
    fn no_secret_survives() {
        let mut redactor = Redactor::default();
        let once: Vec<String> = crafted().iter().map(|text| redactor.text(text)).collect();
        for text in &once {
            let text = redactor.everywhere(text);
            for secret in SECRETS.iter().take(7) {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
        assert!(!once[0].contains("9876543210"), "{}", once[0]);
        assert!(!once.iter().any(|text| text.contains("word!")), "{once:?}");
    }

    #[test]
    fn what_a_reader_needs_stays() {
        let mut redactor = Redactor::default();
        let kept = [
            "INFO cloud call action=CreateNetworkInterface request_id=1A2B-3C ms=120",
            "WARN waiting for an address: none of the vSwitches vsw-1 has a free address",
            "ClientToken=terway-node-1-7 IdempotentParameterMismatch",
        ];
        for line in kept {
            let once = redactor.text(line);
            assert_eq!(redactor.everywhere(&once), line);
        }
        let conf = redactor
            .text(r#"{"vswitches":{"z":["vsw-1"]},"min_pool_size":2,"credential_path":"/x"}"#);
        assert!(conf.contains("vsw-1") && conf.contains("/x"), "{conf}");
    }
}
