//! A call and its answer as they cross the border, free of any HTTP library.

use std::{collections::BTreeMap, time::Duration};

/// One call of the OpenAPI gateway, RPC style: everything is in query and form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiRequest {
    /// `GET` or `POST`.
    pub method: String,
    /// The query as it came, without the question mark.
    pub query: String,
    /// Header fields, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl ApiRequest {
    /// The pairs of the query, decoded.
    pub(crate) fn query_pairs(&self) -> Vec<(String, String)> {
        pairs(&self.query)
    }

    /// The pairs of a form in the body, decoded; none when the body is something else.
    pub(crate) fn form_pairs(&self) -> Vec<(String, String)> {
        let form = self
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        match std::str::from_utf8(&self.body) {
            Ok(text) if form => pairs(text),
            _ => Vec::new(),
        }
    }
}

/// Whether the caller gets to see an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It does.
    Sent,
    /// The connection breaks before the first byte of it.
    Lost,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiResponse {
    /// HTTP status.
    pub status: u16,
    /// JSON, or the beginning of it when a fault cut it short.
    pub body: String,
    /// Whether it reaches the caller.
    pub delivery: Delivery,
    /// How long the cloud took for it; the HTTP face waits that long.
    pub latency: Duration,
}

/// `a=b&c=d`, decoded: `+` is a blank, `%41` is `A`.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                match (ahead.next().and_then(nibble), ahead.next().and_then(nibble)) {
                    (Some(high), Some(low)) => {
                        out.push(high << 4 | low);
                        bytes = ahead;
                    }
                    _ => out.push(b'%'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// `text` with everything but letters, digits and `-_.~` as `%XX` (RFC 3986; both signature
/// versions of the gateway ask for it).
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_once() {
        let decoded = pairs("a=1&b=x%20y+z&c&%2B=%25&d=%zz%4");
        let expected = [
            ("a", "1"),
            ("b", "x y z"),
            ("c", ""),
            ("+", "%"),
            ("d", "%zz%4"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(decoded, expected);
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["2016-02-23T12:46:24Z", "a b+c*d~e", "网卡", "100%"] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(encode("a b*~"), "a%20b%2A~");
    }
}
