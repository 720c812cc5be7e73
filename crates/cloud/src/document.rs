//! From the bytes of an answer to checked fields: the one place that meets JSON.
//!
//! Strict about what is asked for, blind to the rest. Nothing here knows which call it serves.

use core::str::FromStr;

use model::{IdError, MacError, RequestId};
use serde::{Deserialize, de::DeserializeOwned};

/// Why the document of an answer cannot be used. Nobody knows then what the call did.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, cut short, or not of the documented shape.
    #[error("the answer is not the documented JSON")]
    Json(#[source] serde_json::Error),
    /// An id field holds no id.
    #[error("{field} is no id")]
    Id {
        /// The field as the API names it.
        field: &'static str,
        /// What is wrong with it.
        source: IdError,
    },
    /// The MAC field holds no MAC.
    #[error("MacAddress is no MAC address")]
    Mac(#[source] MacError),
    /// A field holds a value outside its documented set.
    #[error("{field} is {text:?}, expected {expected}")]
    Value {
        /// The field as the API names it.
        field: &'static str,
        /// Its value, cut to a readable length.
        text: String,
        /// What the documentation allows.
        expected: &'static str,
    },
    /// Something asked for by name is not in the answer.
    #[error("{what} {name:?} is not in the answer")]
    Absent {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Paging does not end.
    #[error("the answer goes on after {pages} pages")]
    Endless {
        /// How many pages were read.
        pages: usize,
    },
}

/// What every answer starts with, good or bad.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Head {
    pub(crate) request_id: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

impl Head {
    /// The name of the call, when the answer carries a usable one.
    pub(crate) fn id(&self) -> Option<RequestId> {
        RequestId::new(self.request_id.as_deref()?).ok()
    }
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(body).map_err(DecodeError::Json)
}

/// A list as the RPC convention nests it: `{"<Name>": [...]}` below the field.
macro_rules! nested_list {
    ($name:ident, $field:literal) => {
        #[derive(serde::Deserialize)]
        pub(crate) struct $name<T> {
            #[serde(rename = $field)]
            pub(crate) items: Vec<T>,
        }
    };
}
pub(crate) use nested_list;

/// An id that must be there.
pub(crate) fn id<T: TryFrom<String, Error = IdError>>(
    field: &'static str,
    text: String,
) -> Result<T, DecodeError> {
    T::try_from(text).map_err(|source| DecodeError::Id { field, source })
}

/// An id that may be missing; the cloud also writes that as an empty text.
pub(crate) fn optional_id<T: TryFrom<String, Error = IdError>>(
    field: &'static str,
    text: Option<String>,
) -> Result<Option<T>, DecodeError> {
    text.filter(|text| !text.is_empty())
        .map(|text| id(field, text))
        .transpose()
}

/// A value with a textual form of its own, such as an address.
pub(crate) fn value<T: FromStr>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<T, DecodeError> {
    text.parse().map_err(|_| unexpected(field, text, expected))
}

/// The error for a value outside its documented set.
pub(crate) fn unexpected(field: &'static str, text: &str, expected: &'static str) -> DecodeError {
    DecodeError::Value {
        field,
        text: text.chars().take(48).collect(),
        expected,
    }
}

/// The answer of a call that returns nothing but its request id.
pub(crate) fn acknowledged(body: &[u8]) -> Result<(), DecodeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Acknowledgement {
        request_id: String,
    }
    let Acknowledgement { request_id } = parse(body)?;
    id::<RequestId>("RequestId", request_id).map(drop)
}
