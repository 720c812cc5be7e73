//! The error document: how a plugin says no.

use core::fmt;

use serde::Serialize;

/// Error codes of the specification, section 5 "Error", and our own from 100 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The configuration asks for a version we do not speak.
    IncompatibleVersion = 1,
    /// The configuration holds something we do not support.
    UnsupportedField = 2,
    /// There is no such container.
    UnknownContainer = 3,
    /// A `CNI_*` variable is missing or wrong.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The configuration is no JSON, or not of the form it must have.
    Undecodable = 6,
    /// The configuration is well-formed and makes no sense.
    InvalidConfig = 7,
    /// It may work when tried again.
    TryLater = 11,
    /// STATUS: ADDs cannot be served.
    NotAvailable = 50,
    /// STATUS: ADDs cannot be served and running pods may be cut off.
    NotAvailableLimited = 51,
}

/// Why a verb failed, as the runtime is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The specification's code.
    pub code: u32,
    /// One sentence.
    pub message: String,
    /// More, if there is more.
    pub details: String,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "cniVersion")]
    version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl Error {
    /// An error of `code` with `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as u32,
            message: message.into(),
            details: String::new(),
        }
    }

    /// The same with `details`.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self {
            details: details.into(),
            ..self
        }
    }

    /// The document, in `version` of the specification.
    pub fn document(&self, version: &str) -> String {
        let document = Document {
            version,
            code: self.code,
            msg: &self.message,
            details: &self.details,
        };
        serde_json::to_string(&document).unwrap_or_else(|_| {
            // Strings and a number always serialise; this line is what remains if they ever do not.
            format!(
                r#"{{"cniVersion":"1.0.0","code":{},"msg":"unprintable error"}}"#,
                self.code
            )
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (CNI code {})", self.message, self.code)?;
        if self.details.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.details)
        }
    }
}

impl std::error::Error for Error {}
