//! Durations in the notation of Go (`time.ParseDuration`, `Duration.String`): `5m0s`, `1h30m`, `250ms`.
//!
//! `kube` has a parser too, but it panics on what is too large (`9999999999999h`) or has a sign in the middle
//! (`1h-5m`), and these texts are written by users.

use std::time::Duration;

const UNITS: [(&str, f64); 7] = [
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 1e-3),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
];

/// The duration `text` says; nothing when it says none, or a negative one.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, tail) = split(tail, |c| c.is_ascii_digit() || c == '.');
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let number: f64 = number.parse().ok()?;
        let part = Duration::try_from_secs_f64(number * scale).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// `duration` as Go prints it, cut to the millisecond.
pub fn print(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 && millis > 0 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = match (hours, minutes) {
        (0, 0) => String::new(),
        (0, _) => format!("{minutes}m"),
        _ => format!("{hours}h{minutes}m"),
    };
    text.push_str(&format!("{}", seconds % 60));
    if millis > 0 {
        let fraction = format!(".{millis:03}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_printed_as_go_does() {
        let table = [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("5m", 300_000, "5m0s"),
            ("+5m0s", 300_000, "5m0s"),
            ("1h", 3_600_000, "1h0m0s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            ("90s", 90_000, "1m30s"),
            ("250ms", 250, "250ms"),
            ("1s500ms", 1500, "1.5s"),
            (".5s", 500, "500ms"),
        ];
        for (text, millis, printed) in table {
            let read = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(print(read), printed);
        }
        assert_eq!(parse("3us"), Some(Duration::from_micros(3)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let bad = [
            "",
            "+",
            "5",
            "m",
            "5 m",
            "5x",
            "-5m",
            "1h-5m",
            "1e3s",
            "1..5s",
            "9e99h",
            "５m",
            "99999999999999999999h",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
