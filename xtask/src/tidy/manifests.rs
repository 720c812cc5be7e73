//! `deploy/` says what code and documents say: versions, RAM actions, keys of `eni_conf`, alerts with a
//! section in the runbook and with metrics that exist.
//!
//! The chart needs no such check: it holds no objects of its own but links to those of `deploy/base`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Breach, has_end, read};

const AGENT: &str = "deploy/base/daemonset.yaml";
const CHART: &str = "deploy/helm/terway/Chart.yaml";
const ALERTS: &str = "deploy/monitoring/prometheus-rules.yaml";
const POLICY: &str = "deploy/ram/agent-eniip.json";
/// Policies of mode VPC: what they allow is called there.
const OTHER_POLICIES: [&str; 2] = [
    "deploy/ram/agent-vpc.json",
    "deploy/ram/controlplane-routes.json",
];
const ENI_CONFIG: &str = "deploy/eni-config.yaml";

pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<Vec<Breach>> {
    let text = |name: &str| read(Path::new(name));
    let mut breaches = versions(&text(AGENT)?, &text(CHART)?, env!("CARGO_PKG_VERSION"));
    let cloud = files
        .iter()
        .filter(|file| file.starts_with("crates/cloud/src") && has_end(file, "rs"));
    let cloud: String = cloud.map(|file| read(file)).collect::<Result<_, _>>()?;
    let others = OTHER_POLICIES.map(text).into_iter();
    let others = others.collect::<anyhow::Result<String>>()?;
    breaches.extend(actions(&cloud, &text(POLICY)?, &others));
    breaches.extend(keys(&text("docs/configuration.md")?, &text(ENI_CONFIG)?));
    breaches.extend(alerts(
        &text(ALERTS)?,
        &text("docs/runbook.md")?,
        &text("docs/metrics.md")?,
    ));
    Ok(breaches)
}

/// The release's number stands in the manifests.
fn versions(agent: &str, chart: &str, version: &str) -> Vec<Breach> {
    let image = format!("image: terway-rs/terway:v{version}");
    let images = agent.lines().map(str::trim);
    let others = images.filter(|line| line.starts_with("image:") && **line != image);
    let mut breaches: Vec<Breach> = others
        .map(|line| format!("{AGENT} has {line:?}; this release's is {image:?}"))
        .collect();
    for key in ["version", "appVersion"] {
        let wanted = format!("{key}: {version}");
        if !chart.lines().any(|line| line == wanted) {
            breaches.push(format!("{CHART} lacks {wanted:?}"));
        }
    }
    breaches
}

/// The policies allow what is called, and nothing else; what `others` allow need not be in the first.
fn actions<'a>(cloud: &'a str, policy: &'a str, others: &'a str) -> Vec<Breach> {
    let called: BTreeSet<&str> = cloud
        .lines()
        .filter_map(|line| line.trim().strip_prefix("const ACTION: &'static str = \""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let named = |policy: &'a str| -> BTreeSet<&'a str> {
        let action = |word: &'a str| {
            word.strip_prefix("ecs:")
                .or_else(|| word.strip_prefix("vpc:"))
        };
        policy.split('"').filter_map(action).collect()
    };
    let allowed = &named(policy) | &named(others);
    let lacks = called.difference(&allowed);
    let lacks = lacks.map(|action| format!("{POLICY} lacks {action}, which is called"));
    let idle = allowed.difference(&called);
    let idle = idle.map(|action| format!("{POLICY} allows {action}, which nobody calls"));
    lacks.chain(idle).collect()
}

/// Every key the documents know is explained where it is filled in.
fn keys(configuration: &str, manifest: &str) -> Vec<Breach> {
    let table = configuration
        .split("\n## ")
        .find(|section| section.starts_with("`eni_conf`"))
        .unwrap_or_default();
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("| key "))
        .take_while(|line| line.starts_with('|'));
    let named = rows.filter_map(|row| row.split('|').nth(1));
    let keys = named.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let lines = || manifest.lines().map(str::trim);
    keys.filter(|key| !lines().any(|line| line.starts_with(&format!("# {key} "))))
        .map(|key| format!("{ENI_CONFIG} does not explain {key}"))
        .collect()
}

/// Every alert says what and why, has its section, and asks for metrics that exist.
fn alerts(rules: &str, runbook: &str, metrics: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default();
        for key in ["summary: ", "description: ", "severity: "] {
            if !rule.contains(key) {
                breaches.push(format!("{ALERTS}: {name} lacks {key:?}"));
            }
        }
        let link = format!("docs/runbook.md#{}", name.to_lowercase());
        if !rule.contains(&link) || !runbook.contains(&format!("\n## {name}\n")) {
            breaches.push(format!(
                "{ALERTS}: {name} has no section in docs/runbook.md, or no link to it"
            ));
        }
        let expression = rule.split("for: ").next().unwrap_or_default();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for metric in
            words.filter(|word| word.starts_with("terway_") || word.starts_with("aliyun_"))
        {
            let family = ["_total", "_bucket", "_sum"]
                .iter()
                .find_map(|end| metric.strip_suffix(end))
                .unwrap_or(metric);
            let histogram = family.strip_suffix("_count").unwrap_or(family);
            let known = |name: &str| metrics.contains(&format!("`{name}`"));
            if !known(family) && !known(histogram) {
                breaches.push(format!(
                    "{ALERTS}: {name} asks for {metric}, which docs/metrics.md does not have"
                ));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_release_is_found() {
        let agent = "a:\n  image: terway-rs/terway:v1.0.0\n  image: terway-rs/terway:v1.0.1\n";
        let chart = "version: 1.0.1\nappVersion: 1.0.0\n";
        let breaches = versions(agent, chart, "1.0.1");
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert!(breaches[0].contains("v1.0.0") && breaches[1].contains("appVersion"));
    }

    #[test]
    fn policy_and_calls_are_the_same_set() {
        let cloud =
            "    const ACTION: &'static str = \"A\";\n    const ACTION: &'static str = \"B\";\n";
        assert_eq!(
            actions(cloud, r#"["ecs:A"]"#, r#"["vpc:B"]"#),
            [] as [Breach; 0]
        );
        let breaches = actions(cloud, r#"["ecs:A", "ecs:C"]"#, "");
        assert!(breaches[0].contains("lacks B") && breaches[1].contains("allows C"));
    }

    #[test]
    fn a_key_nobody_explains_is_found() {
        let document = "# x\n\n## `eni_conf`\n\n| key | type |\n|---|---|\n| `a`, `b` | string |\n\n| about | `c` |\n";
        let breaches = keys(document, "  # a  text\n  # bb text\n");
        assert_eq!(breaches.len(), 1, "{breaches:?}");
        assert!(breaches[0].ends_with("explain b"));
    }

    #[test]
    fn an_alert_needs_its_section_its_words_and_its_metrics() {
        let rule = "- alert: Bad\n  expr: x_y{} + terway_a_count + terway_b_total > 0\n  for: 5m\n  severity: w\n  summary: s\n  description: d\n  url: docs/runbook.md#bad\n";
        let metrics = "`terway_a` `terway_b`";
        assert_eq!(alerts(rule, "\n## Bad\n", metrics), [] as [Breach; 0]);
        assert_eq!(alerts(rule, "\n## Good\n", metrics).len(), 1);
        assert_eq!(alerts(rule, "\n## Bad\n", "`terway_a`").len(), 1);
        assert_eq!(alerts("- alert: Bad\n", "\n## Bad\n", "").len(), 4);
    }
}
