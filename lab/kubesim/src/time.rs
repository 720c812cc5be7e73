//! Points in time as the API writes them, and the ages `kubectl get` shows.
//!
//! Time always comes in as an argument; nothing here may read a clock.

use core::time::Duration;

/// Time since the Unix epoch, as the caller's clock has it.
pub type UnixTime = Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// `metav1.Time`: RFC 3339 in UTC, whole seconds.
pub fn rfc3339(at: UnixTime) -> String {
    format!("{}Z", civil(at.as_secs()))
}

/// `metav1.MicroTime`: RFC 3339 in UTC, always six decimals.
pub fn rfc3339_micro(at: UnixTime) -> String {
    format!("{}.{:06}Z", civil(at.as_secs()), at.subsec_micros())
}

fn civil(secs: u64) -> String {
    let (year, month, day) = date_of(secs / DAY);
    let (hour, minute) = (secs % DAY / HOUR, secs % HOUR / MINUTE);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        secs % MINUTE
    )
}

/// Proleptic Gregorian date of a day since 1970-01-01, counted in 400-year eras from 0000-03-01 so
/// that the leap day is the last of its year.
fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let shifted_year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Reads a time the API wrote: RFC 3339 in UTC (`Z`), any number of decimals. `None` for anything
/// else, which is shown as an unknown age.
pub fn parse_rfc3339(text: &str) -> Option<UnixTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, decimals) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    if !(1..=12).contains(&month) || day > 31 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let nanos: u32 = format!("{decimals:0<9}").get(..9)?.parse().ok()?;
    let secs = days_before(year, month, day)? * DAY + hour * HOUR + minute * MINUTE + second;
    Some(Duration::new(secs, nanos))
}

/// How long ago, in the rounding `kubectl` users know (`duration.HumanDuration` of apimachinery).
pub fn human(age: Duration) -> String {
    let secs = age.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match secs {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_were_written() {
        for secs in [
            0,
            68_169_599,
            951_782_400,
            1_709_164_800,
            1_795_000_000,
            4_107_542_399,
        ] {
            let at = Duration::new(secs, 123_456_000);
            assert_eq!(parse_rfc3339(&rfc3339_micro(at)), Some(at));
            assert_eq!(parse_rfc3339(&rfc3339(at)), Some(Duration::from_secs(secs)));
        }
        assert_eq!(
            rfc3339(Duration::from_secs(951_782_400)),
            "2000-02-29T00:00:00Z"
        );
        for bad in [
            "",
            "2000-02-29",
            "2000-13-01T00:00:00Z",
            "x-02-29T00:00:00Z",
            "2000-01-01T0Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn ages_round_as_kubectl_rounds() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 300, "3h5m"),
            (9 * HOUR, "9h"),
            (50 * HOUR, "2d2h"),
            (9 * DAY, "9d"),
            (3 * YEAR + DAY, "3y1d"),
            (9 * YEAR, "9y"),
        ];
        for (secs, expected) in cases {
            assert_eq!(human(Duration::from_secs(secs)), expected);
        }
    }
}
