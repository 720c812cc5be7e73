//! `explain`: the one answer to "why has this pod no address".
//!
//! Gathering ([`gather`]), what is known ([`facts`]), the verdict ([`mod@verdict`]) and its form on paper
//! are separate, so that every situation can be tested without a cluster.

mod advice;
pub(crate) mod facts;
mod gather;
pub(crate) mod own_eni;
mod verdict;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use model::PodKey;
use serde_json::{Value, json};

use crate::{
    agent::{self, now_seconds},
    cluster::{Cluster, Where},
    text::{Paint, Tone, age, foreign},
};
use verdict::{Answer, Outcome, verdict};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The pod, as NAMESPACE/POD
    #[arg(value_name = "NAMESPACE/POD", value_parser = pod_key)]
    pod: PodKey,
    /// As one document
    #[arg(long)]
    json: bool,
}

/// Arguments of `ask`.
#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    /// The pod, as NAMESPACE/POD
    #[arg(value_name = "NAMESPACE/POD", value_parser = pod_key)]
    pod: PodKey,
}

fn pod_key(text: &str) -> Result<PodKey, String> {
    let (namespace, name) = text
        .split_once('/')
        .ok_or("expected NAMESPACE/POD, for example default/web-0")?;
    PodKey::new(namespace, name).map_err(|error| error.to_string())
}

/// Carries out `explain`. Code 0: the pod has its address; 1: it has not; 2: that could not be found out.
pub(crate) fn run(arguments: &ExplainArgs, socket: &Path, place: &Where) -> Result<ExitCode> {
    let runtime = crate::runtime()?;
    let facts = runtime.block_on(async {
        let cluster = Cluster::connect(place).await;
        let cluster = cluster.map_err(|error| format!("{error:#}"));
        gather::gather(&arguments.pod, socket, cluster).await
    });
    let answer = verdict(&facts);
    if arguments.json {
        let document = document(&facts.name, &answer);
        crate::print(&serde_json::to_string_pretty(&document)?)?;
    } else {
        crate::print(&page(&answer, now_seconds(), Paint::for_stdout()))?;
    }
    Ok(match answer.finding.outcome {
        Outcome::Has => ExitCode::SUCCESS,
        Outcome::HasNot => ExitCode::from(1),
        Outcome::Undecided => ExitCode::from(crate::UNDECIDED),
    })
}

/// The page about `pod`, for an archive.
pub(crate) async fn of(cluster: &Cluster, pod: &PodKey) -> String {
    // A path nobody listens at: the archive is about the cluster, wherever it is made.
    let facts = gather::gather(pod, Path::new(""), Ok(cluster.clone())).await;
    page(&verdict(&facts), now_seconds(), Paint::none())
}

/// Prints what this node's agent says of a pod, for another `terway-cli` to read.
pub(crate) fn ask(arguments: &AskArgs, socket: &Path) -> Result<ExitCode> {
    let document =
        agent::explain(socket, &arguments.pod).map_err(|silence| anyhow!("{silence}"))?;
    let text = serde_json::to_string(&document).context("writing the agent's answer")?;
    crate::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn document(pod: &str, answer: &Answer) -> Value {
    let finding = &answer.finding;
    let tried = answer
        .tried
        .iter()
        .map(|(at, what)| json!({ "at": at, "what": what }));
    json!({
        "pod": pod,
        "has_address": match finding.outcome {
            Outcome::Has => Some(true),
            Outcome::HasNot => Some(false),
            Outcome::Undecided => None,
        },
        "verdict": finding.verdict,
        "tried": tried.collect::<Vec<_>>(),
        "missing": finding.missing,
        "next": finding.next,
        "todo": finding.todo,
        "not_asked": answer.unasked,
    })
}

fn page(answer: &Answer, now: u64, paint: Paint) -> String {
    let finding = &answer.finding;
    let tone = match finding.outcome {
        Outcome::Has => Tone::Good,
        Outcome::HasNot => Tone::Bad,
        Outcome::Undecided => Tone::Pending,
    };
    let mut lines = vec![paint.tone(tone, &foreign(&finding.verdict))];
    let tried: Vec<String> = answer
        .tried
        .iter()
        .map(|(at, what)| match at {
            0 => format!("    ?  {what}"),
            at => format!("{:>5}  {what}", age(now.saturating_sub(*at))),
        })
        .collect();
    let missing: Vec<String> = finding.missing.iter().map(|text| foreign(text)).collect();
    for (title, entries) in [
        ("What was tried (how long ago)", &tried),
        ("What is missing", &missing),
        ("What happens next", &vec![finding.next.clone()]),
        ("What you can do", &finding.todo),
        ("What could not be asked", &answer.unasked),
    ] {
        if !entries.is_empty() {
            lines.push(String::new());
            lines.push(paint.tone(Tone::Head, title));
            lines.extend(entries.iter().map(|entry| format!("  {entry}")));
        }
    }
    lines.join("\n")
}
