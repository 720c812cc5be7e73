//! The parameters of a call, read with the cloud's rules and refused with the cloud's words.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::RangeInclusive,
};

use crate::{
    refusal::{Outcome, Refusal},
    request::ApiRequest,
};

/// Parameters of the gateway, which say nothing about what is to be done (RPC-style common
/// parameters).
const COMMON: [&str; 12] = [
    "AccessKeyId",
    "Action",
    "ClientToken",
    "Format",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureType",
    "SignatureVersion",
    "Timestamp",
    "Version",
];
/// Longest ClientToken (ECS API: "cannot exceed 64 characters").
const CLIENT_TOKEN_MAX: usize = 64;
/// Tags of one resource, and the length of a tag's key and value (ECS API, parameter Tag.N).
const TAGS_MAX: usize = 20;
const TAG_LENGTH_MAX: usize = 128;

/// All parameters of one call by name, whether they came in the query or in a form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Params {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Params {
    pub(crate) fn of(request: &ApiRequest) -> Self {
        let mut all = request.query_pairs();
        all.extend(request.form_pairs());
        all.into_iter().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// What the call asks for, without what the gateway adds: the identity that a ClientToken stands for.
    pub(crate) fn substance(&self) -> BTreeMap<String, String> {
        let ours = |name: &str| !COMMON.contains(&name);
        self.0
            .iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// A parameter that was given and is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    pub(crate) fn required(&self, name: &str) -> Outcome<&str> {
        self.text(name).ok_or_else(|| Refusal::missing(name))
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u32>) -> Outcome<Option<u32>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse::<u32>().ok().filter(|n| range.contains(n));
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        number
            .map(Some)
            .ok_or_else(|| Refusal::invalid(name, expected()))
    }

    pub(crate) fn flag(&self, name: &str) -> Outcome<Option<bool>> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::invalid(name, "true or false")),
        }
    }

    /// One of a closed set of words.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Outcome<Option<T>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*value));
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(Refusal::invalid(
            name,
            format!("one of {}", known.join(", ")),
        ))
    }

    /// `name.1`, `name.2` and so on, in the order of their numbers.
    pub(crate) fn list(&self, name: &str, most: usize) -> Outcome<Vec<&str>> {
        let numbered: BTreeMap<u32, &str> = self
            .iter()
            .filter_map(|(key, value)| {
                let number = key.strip_prefix(name)?.strip_prefix('.')?;
                Some((number.parse().ok()?, value))
            })
            .filter(|(_, value)| !value.is_empty())
            .collect();
        if numbered.len() > most {
            return Err(Refusal::invalid(
                &format!("{name}.N"),
                format!("at most {most} values"),
            ));
        }
        Ok(numbered.into_values().collect())
    }

    /// `name.1.Member`, `name.2.Member` and so on: the members of each, in the order of their numbers.
    pub(crate) fn rows(&self, name: &str, most: usize) -> Outcome<Vec<Self>> {
        let mut rows: BTreeMap<u32, Self> = BTreeMap::new();
        for (key, value) in self.iter() {
            let rest = key
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('.'));
            let Some((number, member)) = rest.and_then(|rest| rest.split_once('.')) else {
                continue;
            };
            if let Ok(number) = number.parse() {
                let row = rows.entry(number).or_default();
                row.0.insert(member.to_owned(), value.to_owned());
            }
        }
        match rows.len() > most {
            true => Err(Refusal::invalid(
                &format!("{name}.N"),
                format!("at most {most}"),
            )),
            false => Ok(rows.into_values().collect()),
        }
    }

    /// A list of IPv4 addresses, none of them twice.
    pub(crate) fn addresses(&self, name: &str, most: usize) -> Outcome<Vec<Ipv4Addr>> {
        let mut seen = BTreeSet::new();
        let mut addresses = Vec::new();
        for text in self.list(name, most)? {
            let address = text
                .parse()
                .map_err(|_| Refusal::invalid(&format!("{name}.N"), "an IPv4 address"))?;
            if !seen.insert(address) {
                return Err(Refusal::address_twice(address));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// `Tag.N.Key` and `Tag.N.Value`.
    pub(crate) fn tags(&self) -> Outcome<BTreeMap<String, String>> {
        let mut tags = BTreeMap::new();
        let keys = self.iter().filter_map(|(name, key)| {
            let number = name.strip_prefix("Tag.")?.strip_suffix(".Key")?;
            Some((number, key))
        });
        for (number, key) in keys {
            let value = self
                .0
                .get(&format!("Tag.{number}.Value"))
                .cloned()
                .unwrap_or_default();
            let foreign = ["aliyun", "acs:"]
                .iter()
                .any(|prefix| key.starts_with(prefix));
            if key.is_empty() || key.len() > TAG_LENGTH_MAX || foreign {
                let message = "The specified Tag.n.Key is not valid.";
                return Err(Refusal::new(400, "InvalidTagKey.Malformed", message));
            }
            if value.len() > TAG_LENGTH_MAX {
                let message = "The specified Tag.n.Value is not valid.";
                return Err(Refusal::new(400, "InvalidTagValue.Malformed", message));
            }
            if tags.insert(key.to_owned(), value).is_some() {
                let message = "The Tag.N.Key contain duplicate key.";
                return Err(Refusal::new(400, "Duplicate.TagKey", message));
            }
        }
        if tags.len() > TAGS_MAX {
            let message = format!("At most {TAGS_MAX} tags are allowed.");
            return Err(Refusal::new(403, "QuotaExceed.Tags", message));
        }
        Ok(tags)
    }

    pub(crate) fn client_token(&self) -> Outcome<Option<&str>> {
        match self.text("ClientToken") {
            Some(token) if token.len() > CLIENT_TOKEN_MAX || !token.is_ascii() => {
                Err(Refusal::invalid(
                    "ClientToken",
                    format!("at most {CLIENT_TOKEN_MAX} ASCII characters"),
                ))
            }
            token => Ok(token),
        }
    }

    /// Refuses parameters that the real cloud knows and this region does not offer, so that nobody
    /// takes silence for obedience.
    pub(crate) fn refuse(&self, names: &[&str]) -> Outcome<()> {
        let given = |name: &str| {
            self.text(name).is_some()
                || self.0.keys().any(|key| {
                    key.strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with('.'))
                })
        };
        match names.iter().find(|name| given(name)) {
            Some(name) => Err(Refusal::unsupported(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&ApiRequest {
            query: query.into(),
            ..ApiRequest::default()
        })
    }

    #[test]
    fn lists_follow_their_numbers_and_have_an_end() {
        let params = params("Id.10=c&Id.2=b&Id.1=a&Id.x=z&Idx.1=q");
        assert_eq!(params.list("Id", 3).unwrap(), ["a", "b", "c"]);
        assert_eq!(params.list("Id", 2).unwrap_err().code, "InvalidParameter");
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        for bad in ["N=0", "N=50", "N=-1", "N=4294967296", "N=x", "N=1.5"] {
            assert_eq!(
                params(bad).number("N", 1..=49).unwrap_err().code,
                "InvalidParameter",
                "{bad}"
            );
        }
        assert_eq!(params("N=49").number("N", 1..=49).unwrap(), Some(49));
        assert_eq!(params("N=").number("N", 1..=49).unwrap(), None);
    }

    #[test]
    fn bad_tags_are_refused() {
        for (bad, code) in [
            ("Tag.1.Key=a&Tag.2.Key=a", "Duplicate.TagKey"),
            ("Tag.1.Key=&Tag.1.Value=x", "InvalidTagKey.Malformed"),
            ("Tag.1.Key=acs:x", "InvalidTagKey.Malformed"),
        ] {
            assert_eq!(params(bad).tags().unwrap_err().code, code, "{bad}");
        }
    }

    #[test]
    fn the_substance_leaves_the_gateway_out() {
        let params = params("Action=A&Timestamp=t&ClientToken=c&VSwitchId=v");
        let substance: Vec<String> = params.substance().into_keys().collect();
        assert_eq!(substance, ["VSwitchId"]);
    }
}
