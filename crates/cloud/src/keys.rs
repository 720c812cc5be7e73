//! Access keys, which must never reach a log, an error or a dump.

use core::fmt;

/// A text that is shown to nobody: its `Debug` form hides it and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for signing only.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What a call is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The AccessKey id: names the identity, is not secret.
    pub id: String,
    /// The AccessKey secret.
    pub secret: Secret,
    /// The STS token that belongs to a temporary key.
    pub token: Option<Secret>,
}

impl Keys {
    /// A permanent key.
    pub fn permanent(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: Secret::new(secret),
            token: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_no_text_form() {
        let keys = Keys {
            token: Some(Secret::new("the-token")),
            ..Keys::permanent("the-id", "the-secret")
        };
        let shown = format!("{keys:?} {keys:#?}");
        assert!(shown.contains("the-id"), "{shown}");
        assert!(
            !shown.contains("the-secret") && !shown.contains("the-token"),
            "{shown}"
        );
    }
}
