//! UTC as the cloud writes it, `2016-02-23T12:46:24Z`, to and from seconds since the Unix epoch.
//!
//! Calendar arithmetic only: no clock, no zones, no leap seconds (POSIX time has none).

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const EPOCH_DAYS: u64 = 719_468;
/// Days of 400 years: 400 * 365 + 97 leap days.
const ERA_DAYS: u64 = 146_097;

/// The text for `seconds` since the epoch.
pub(crate) fn text(seconds: u64) -> String {
    // Years start in March here, so that the leap day is the last of its year.
    let days = seconds / SECONDS_PER_DAY + EPOCH_DAYS;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31 30 31 30 31 | 31 30 31 30 31 | 31 days: 153 in five.
    let shifted = (5 * day_of_year + 2) / 153;
    let month_day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let second = seconds % SECONDS_PER_DAY;
    format!(
        "{year:04}-{month:02}-{month_day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// Seconds since the epoch for `text`; nothing when it is not of this form or before 1970.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let layout = text.as_bytes();
    let fixed = [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'Z'),
    ];
    if layout.len() != 20 || fixed.iter().any(|&(at, byte)| layout[at] != byte) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970
        || !(1..=12).contains(&month)
        || day == 0
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
    let seconds = days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second;
    // A day the month does not have lands in the next month, and so writes itself differently.
    (self::text(seconds) == text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // `date -u -d @N +%FT%TZ` is the oracle.
        for (moment, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_456_231_584, "2016-02-23T12:46:24Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(text(moment), expected);
            assert_eq!(seconds(expected), Some(moment));
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "2016-02-30T00:00:00Z",
            "2016-13-01T00:00:00Z",
            "2016-02-23 12:46:24Z",
            "2016-02-23T12:46:24",
            "2016-02-23T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "+016-02-23T12:46:24Z",
            "２016-02-23T12:46:24Z",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_moment_round_trips(moment in 0_u64..250_000_000_000) {
            proptest::prop_assert_eq!(seconds(&text(moment)), Some(moment));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = seconds(&text);
        }
    }
}
