//! What came of a run of messages: counts, round-trip times, the verdict, one line of JSON.

use std::{fmt::Write, time::Duration};

use crate::json::Quoted;

/// The result of an exchange.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Messages that were to be sent.
    pub(crate) wanted: u64,
    /// Messages handed to the kernel.
    pub(crate) sent: u64,
    /// Round-trip times of those answered in time, in the order they came, in microseconds.
    pub(crate) rtts: Vec<u32>,
    /// The last thing that went wrong, if any did.
    pub(crate) error: Option<String>,
}

impl Report {
    /// Notes an answer that took `rtt`.
    pub(crate) fn answered(&mut self, rtt: Duration) {
        self.rtts
            .push(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
    }

    /// Messages that found no answer in time, those never sent included.
    pub(crate) fn lost(&self) -> u64 {
        self.wanted - self.rtts.len() as u64
    }

    /// The report as one line of JSON.
    pub(crate) fn line(&self) -> String {
        let received = self.rtts.len();
        let mut line = format!(
            "{{\"sent\":{},\"received\":{received},\"lost\":{},\"rtt_us\":",
            self.sent,
            self.lost()
        );
        let mut sorted = self.rtts.clone();
        sorted.sort_unstable();
        // Writing to a String cannot fail.
        let _ = match (sorted.first(), sorted.last()) {
            (Some(min), Some(max)) => {
                let (p50, p99) = (percentile(&sorted, 50), percentile(&sorted, 99));
                write!(
                    line,
                    "{{\"min\":{min},\"p50\":{p50},\"p99\":{p99},\"max\":{max}}}"
                )
            }
            _ => write!(line, "null"),
        };
        if let Some(error) = &self.error {
            let _ = write!(line, ",\"error\":{}", Quoted(error));
        }
        line.push('}');
        line
    }
}

/// Nearest rank: the smallest value that at least `percent` of all values do not exceed.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), 50);
        assert_eq!(percentile(&hundred, 99), 99);
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[1, 9], 99), 9);
    }

    #[test]
    fn the_line_is_exact() {
        let mut report = Report {
            wanted: 4,
            sent: 3,
            ..Report::default()
        };
        assert_eq!(
            report.line(),
            r#"{"sent":3,"received":0,"lost":4,"rtt_us":null}"#
        );
        for micros in [30, 10, 20] {
            report.answered(Duration::from_micros(micros));
        }
        report.error = Some("no \"answer\"".into());
        assert_eq!(
            report.line(),
            r#"{"sent":3,"received":3,"lost":1,"rtt_us":{"min":10,"p50":20,"p99":30,"max":30},"error":"no \"answer\""}"#
        );
    }
}
