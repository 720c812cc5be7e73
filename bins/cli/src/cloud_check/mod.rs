//! `cloud-check`: whether the cloud answers as this software and its lab expect, for somebody with an
//! account.
//!
//! One ENI is made, tagged, used and deleted. Each answer's shape is compared with what the lab's region
//! answers (`lab.json`, kept true by a test that runs this very check against the region). What was
//! made is removed in the end, also after Ctrl-C, and what an earlier run left is removed first.

mod cleanup;
mod mask;
mod plan;
mod session;
mod shape;
mod steps;

use std::{
    fs,
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};

use crate::{
    agent::now_seconds,
    cluster::Where,
    text::{Paint, Tone, foreign, table},
};
use cleanup::Cleanup;
use plan::Plan;
use session::{Line, Session, Verdict};

/// The tag that names the run which made an ENI.
const TAG: &str = "terway-cloud-check";
/// The tag all runs have in common, by which they find each other's.
const CREATOR: (&str, &str) = ("creator", "terway-cloud-check");

/// A run that began longer ago is over: some 40 calls of at most 20 s, and six waits of a minute.
const RUN_SECONDS_MAX: u64 = 1200;

/// The shapes the lab's region answers with.
const LAB: &str = include_str!("lab.json");

/// Arguments of `cloud-check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CloudCheckArgs {
    /// File with eni_conf; if there is none, ConfigMap eni-config is read
    #[arg(long, default_value = "/etc/eni/eni_conf")]
    config: PathBuf,
    /// vSwitch for the ENI, else the first that eni_conf names for this zone
    #[arg(long)]
    vswitch: Option<String>,
    /// Also attach the ENI to this instance, and detach it
    #[arg(long)]
    attach: bool,
    /// Write every answer there, without the account's names, and the shapes found
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Begin without asking
    #[arg(long)]
    yes: bool,
    /// The instance metadata service
    #[arg(long, default_value = cloud::metadata::DEFAULT_BASE)]
    metadata: String,
}

/// Carries out `cloud-check`. Code 0: the cloud answers as the lab does; 1: it does not, or something is
/// left behind; 2: it could not be found out.
pub(crate) fn run(arguments: &CloudCheckArgs, place: &Where) -> Result<ExitCode> {
    let lab = serde_json::from_str(LAB).context("the shapes built into this program")?;
    let runtime = crate::runtime()?;
    runtime.block_on(async {
        let (plan, client) = Plan::make(arguments, place).await?;
        let now = now_seconds();
        let run = format!("{now}-{}", std::process::id());
        eprintln!("{}", plan.words(&run, arguments.attach));
        if !arguments.yes && !agreed()? {
            bail!("nothing was done");
        }
        if let Some(directory) = &arguments.record {
            // Before anything is made: an answer that cannot be kept is not worth an ENI.
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        tokio::spawn(listen_for_the_end(Arc::clone(&stop)));
        let mut session = Session::new(client, lab, stop);
        let former = cleanup::earlier(&session, &run, now).await;
        let whole = steps::all(&mut session, &plan, &run, arguments.attach).await;
        let own = cleanup::own(&session, &run).await;
        if let Some(directory) = &arguments.record {
            record(directory, &session)?;
        }
        crate::print(&page(&session.lines, &former, &own, Paint::for_stdout()))?;
        Ok(code(&session, whole.is_some(), &former, &own))
    })
}

/// Asks a person.
fn agreed() -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("nobody is there to agree to this: give --yes");
    }
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Notes that somebody wants this to end. A call under way is not cut off: its outcome would be unknown.
async fn listen_for_the_end(stop: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stop.store(true, Ordering::Relaxed);
        eprintln!("ending: what was made is being removed; this takes seconds");
    }
}

/// Writes what was answered, without the account's names.
fn record(directory: &Path, session: &Session) -> Result<()> {
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
    };
    let mut mask = mask::Mask::default();
    for (number, entry) in session.records.iter().enumerate() {
        let masked = mask.document(entry);
        let action = masked["Action"].as_str().unwrap_or("call").to_owned();
        let name = format!("{:02}-{action}.json", number + 1);
        write(&name, serde_json::to_string_pretty(&masked)?)?;
    }
    write("shapes.json", serde_json::to_string_pretty(&session.seen)?)
}

fn code(session: &Session, whole: bool, former: &Cleanup, own: &Cleanup) -> ExitCode {
    let any = |verdict| session.lines.iter().any(|line| line.verdict == verdict);
    if any(Verdict::Differs) || !own.left.is_empty() || !former.left.is_empty() {
        ExitCode::from(1)
    } else if !whole || any(Verdict::NotDone) {
        ExitCode::from(crate::UNDECIDED)
    } else {
        ExitCode::SUCCESS
    }
}

fn page(lines: &[Line], former: &Cleanup, own: &Cleanup, paint: Paint) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let took = line
                .milliseconds
                .map(|ms| ms.to_string())
                .unwrap_or_default();
            let detail = foreign(&line.detail.join("; "));
            vec![
                line.step.into(),
                line.call.into(),
                line.verdict.word().into(),
                took,
                detail,
            ]
        })
        .collect();
    let head = ["STEP", "CALL", "AGAINST THE LAB", "MS", "DETAIL"];
    let mut text = table(paint, &head, &rows, |column, cell| match (column, cell) {
        (2, "same") => Some(Tone::Good),
        (2, "DIFFERS") => Some(Tone::Bad),
        (2, _) => Some(Tone::Pending),
        _ => None,
    });
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    text.push_str(&format!(
        "\n{} as in the lab, {} with more, {} otherwise, {} not done\n",
        count(Verdict::Same),
        count(Verdict::More),
        count(Verdict::Differs),
        count(Verdict::NotDone)
    ));
    let removed = former.removed.len();
    if removed > 0 {
        text.push_str(&format!("removed {removed} of an earlier check\n"));
    }
    match former
        .left
        .iter()
        .chain(&own.left)
        .map(|what| foreign(what))
        .collect::<Vec<_>>()
    {
        left if left.is_empty() => text.push_str("nothing is left behind"),
        left => text.push_str(&paint.tone(Tone::Bad, &format!("left behind: {}", left.join("; ")))),
    }
    text
}
