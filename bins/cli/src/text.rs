//! Text for a terminal: colours when somebody looks, tables, ages, and nothing in it that a terminal
//! would take for a command.

use std::io::IsTerminal;

/// Longest text of somebody else's shown in one place: a few lines of a terminal.
const FOREIGN_CHARACTERS_MAX: usize = 400;

/// What a text means to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Somebody should look.
    Bad,
    /// Not wrong, not finished.
    Pending,
    /// A heading.
    Head,
    /// Of less interest.
    Faint,
}

/// Whether colours are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal is a dumb one.
    pub(crate) fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(!unwanted && std::io::stdout().is_terminal())
    }

    /// No colours.
    pub(crate) fn none() -> Self {
        Self(false)
    }

    /// `text` in `tone`.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        if !self.0 || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Pending => 33,
            Tone::Head => 1,
            Tone::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// `text`, which somebody else wrote, on one line and cut: no control characters reach the terminal.
pub(crate) fn foreign(text: &str) -> String {
    let mut clean = String::new();
    for (count, character) in text.trim().chars().enumerate() {
        if count == FOREIGN_CHARACTERS_MAX {
            clean.push('…');
            break;
        }
        let shown = if character.is_control() {
            ' '
        } else {
            character
        };
        if shown != ' ' || !clean.ends_with(' ') {
            clean.push(shown);
        }
    }
    clean
}

/// Rows under a heading, each column as wide as its widest entry. The last column is not padded.
/// `tone` colours a cell by row, column and text.
pub(crate) fn table(
    paint: Paint,
    head: &[&str],
    rows: &[Vec<String>],
    tone: impl Fn(usize, &str) -> Option<Tone>,
) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0).max(head[column].chars().count())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String], heading: bool| {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let painted = match tone(column, cell) {
                _ if heading => paint.tone(Tone::Head, cell),
                Some(tone) => paint.tone(tone, cell),
                None => cell.clone(),
            };
            text.push_str(&painted);
            if column + 1 < cells.len() {
                let gap = widths[column] + 2 - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', gap));
            }
        }
        text.trim_end().to_owned()
    };
    let titles: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let mut lines = vec![line(&titles, true)];
    lines.extend(rows.iter().map(|row| line(row, false)));
    lines.join("\n")
}

/// How long ago or how long, for people: `42s`, `7m`, `3h`, `2d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `count` of `thing`, in the plural where it belongs.
pub(crate) fn count(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_command_the_terminal() {
        let shown = foreign("a\x1b]0;title\x07b\r\n\n c\u{9b}31m");
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert_eq!(foreign(&"x".repeat(5000)).chars().count(), 401);
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let rows = vec![
            vec!["node-1".into(), "yes".into(), String::new()],
            vec!["n".into(), "no".into(), "down".into()],
        ];
        let shown = table(Paint::none(), &["NODE", "READY", "WRONG"], &rows, |_, _| {
            None
        });
        assert_eq!(
            shown,
            "NODE    READY  WRONG\nnode-1  yes\nn       no     down"
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [0, 119, 120, 7200, 200_000].map(age),
            ["0s", "119s", "2m", "2h", "2d"]
        );
    }
}
