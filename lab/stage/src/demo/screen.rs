//! What the demo looks like: headings, tables, verdicts; colours only where a person watches.

use std::io::IsTerminal;

use super::Check;

/// Where the story is told, or not.
pub(super) struct Screen {
    story: bool,
    colours: bool,
}

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

impl Screen {
    pub(super) fn new(story: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none();
        Self {
            story,
            colours: wanted && std::io::stdout().is_terminal(),
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("{colour}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn say(&self, text: &str) {
        if self.story {
            println!("{text}");
        }
    }

    pub(super) fn heading(&self, text: &str) {
        self.say(&format!("\n{}", self.paint(BOLD, text)));
    }

    /// Rows in columns as wide as their widest cell.
    pub(super) fn table(&self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let cells = row.iter().zip(&widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:<width$}  "))
                .collect();
            self.say(&format!("  {}", line.trim_end()));
        }
    }

    pub(super) fn verdict(&self, ok: bool, name: &str, text: &str) {
        let mark = if ok {
            self.paint(GREEN, "ok  ")
        } else {
            self.paint(RED, "FAIL")
        };
        self.say(&format!("  {mark} {name}: {text}"));
    }

    pub(super) fn end(&self, checks: &[Check], seconds: f64) {
        let failed: Vec<&str> = checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| check.name)
            .collect();
        let held = checks.len() - failed.len();
        self.heading(&format!(
            "{held} of {} checks hold, {seconds:.1} s",
            checks.len()
        ));
        if !failed.is_empty() {
            self.say(&self.paint(RED, &format!("failed: {}", failed.join(", "))));
        }
        let me = std::env::args()
            .next()
            .unwrap_or_else(|| "terway-lab".into());
        self.say("\nTry it yourself:");
        for line in [
            format!("{me} up --detach && export KUBECONFIG=$({me} kubeconfig)"),
            "kubectl run web --image=probe && kubectl wait pod web --for=condition=Ready && kubectl get pods -o wide".to_owned(),
            format!("{me} exec web -- ip route"),
            format!("{me} exec web -- timeout 10 tcpdump -ni eth0   # apt-get install tcpdump"),
            format!("pip install alibabacloud_ecs20140526 && {me} status --json | python3 lab/sdk/describe_enis.py"),
        ] {
            self.say(&format!("  {line}"));
        }
    }
}
