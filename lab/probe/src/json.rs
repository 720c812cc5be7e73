//! The little JSON this program writes.

use std::fmt::{self, Display, Formatter, Write};

/// A text as a JSON string (RFC 8259, section 7).
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                control if u32::from(control) < 0x20 => {
                    write!(out, "\\u{:04x}", u32::from(control))?;
                }
                other => out.write_char(other)?,
            }
        }
        out.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_forbids_is_escaped() {
        assert_eq!(
            Quoted("a\"b\\c\n\u{1}é").to_string(),
            r#""a\"b\\c\u000a\u0001é""#
        );
    }
}
