//! Times as the API server writes them: RFC 3339, whole seconds.

use k8s_openapi::jiff;
use model::Timestamp;

use crate::FieldError;

/// The point in time `text` names.
pub(crate) fn parse(field: &str, text: &str) -> Result<Timestamp, FieldError> {
    let wrong = || FieldError::new(field, text, "expected a time such as 2021-07-19T10:45:31Z");
    let parsed: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    let nanos = u64::try_from(parsed.as_nanosecond()).map_err(|_| wrong())?;
    Ok(Timestamp::from_nanos(nanos))
}

/// `at` as text, cut to the second as `metav1.Time` is.
pub(crate) fn print(at: Timestamp) -> String {
    let seconds = at.as_nanos() / 1_000_000_000;
    // 2^64 ns end in 2554, which RFC 3339 can say.
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_by_the_second() {
        let text = "2021-07-19T10:45:31Z";
        let at = parse("at", text).unwrap();
        assert_eq!(at.as_nanos(), 1_626_691_531_000_000_000);
        assert_eq!(print(at), text);
        let later = parse("at", "2021-07-19T10:45:31.9+00:00").unwrap();
        assert_eq!(print(later), text);
        for bad in ["", "yesterday", "1969-12-31T23:59:59Z"] {
            assert!(parse("at", bad).is_err(), "{bad}");
        }
    }
}
