//! Points in time as the cloud writes them: UTC to the second, `2026-11-22T22:06:00Z`.

use model::Timestamp;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// `time` as the cloud writes it; fractions of a second are cut.
pub(crate) fn format(time: Timestamp) -> String {
    let seconds = time.as_nanos() / NANOS;
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The point in time that `text` names, if it is of the cloud's form.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = bytes.len() == shape.len()
        && bytes.iter().zip(shape).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let days = days_of(year, month, day)?;
    // A leap second is written :60; it is the same second as the next one here.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    seconds.checked_mul(NANOS).map(Timestamp::from_nanos)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_lengths(year: u64) -> [u64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn date_of(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    for length in month_lengths(year) {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    // Beyond 2554 a Timestamp ends.
    if !(1970..2554).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let before = usize::try_from(month - 1).ok()?;
    let lengths = month_lengths(year);
    let length = *lengths.get(before)?;
    if day == 0 || day > length {
        return None;
    }
    let years: u64 = (1970..year)
        .map(|y| if is_leap(y) { 366 } else { 365 })
        .sum();
    Some(years + lengths.iter().take(before).sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_time_round_trip() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59Z",
            "2026-11-22T22:06:00Z",
        ] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(
            parse("2016-02-23T12:46:24Z").unwrap().as_nanos(),
            1_456_231_584 * NANOS
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22 22:06:00",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T22:06:00+08:00",
            "9999-01-01T00:00:00Z",
            "2026-1é-22T22:06:0Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
