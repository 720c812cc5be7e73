//! `terway-sim`: runs seeds, replays saved runs, the named scenarios, the scale runs and the planted
//! bugs.

mod planted;
mod recording;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use sim::{Report, Schedule};

/// The deterministic simulator.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run seeds; the first failure is cut down and saved.
    Run {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first; by default a random one, which is printed.
        #[arg(long)]
        seed_base: Option<u64>,
        /// Simulated minutes of trouble a seed.
        #[arg(long, default_value_t = 20)]
        minutes: u64,
        /// Where failures are saved.
        #[arg(long, default_value = "target/sim")]
        save: PathBuf,
        /// Do not cut failures down.
        #[arg(long)]
        no_shrink: bool,
        /// Stop at the first failure.
        #[arg(long)]
        first: bool,
        /// Seeds to leave out.
        #[arg(long, value_delimiter = ',')]
        except: Vec<u64>,
    },
    /// Run a saved schedule, or what an agent recorded (`terway-cli dump`).
    Replay {
        /// The file.
        file: PathBuf,
        /// Print every event.
        #[arg(long)]
        log: bool,
    },
    /// Run the named scenarios.
    Scenarios {
        /// Only those whose title starts so.
        only: Option<String>,
        /// Print every event.
        #[arg(long)]
        log: bool,
    },
    /// Many nodes: cold start, churn, restart of all agents, half an hour without the API.
    Scale {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        nodes: usize,
        /// Pods on each.
        #[arg(long, default_value_t = 100)]
        pods: u16,
        /// Where latencies come from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Stop when all pods have started.
        #[arg(long)]
        cold_start: bool,
    },
    /// Put the planted bugs in one at a time and count the seeds until each is caught.
    Planted {
        /// The workspace.
        #[arg(long, default_value = ".")]
        workspace: PathBuf,
        /// Where the copy is built.
        #[arg(long, default_value = "target/planted")]
        scratch: PathBuf,
        /// Seeds after which a bug counts as not caught.
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        /// Only patches whose name starts so.
        only: Option<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let clean = match Arguments::parse().command {
        Command::Run {
            seeds,
            seed_base,
            minutes,
            save,
            no_shrink,
            first,
            except,
        } => {
            let base = seed_base.unwrap_or_else(random_base);
            Run {
                minutes,
                save,
                shrink: !no_shrink,
                first,
                except,
            }
            .seeds(base, seeds)?
        }
        Command::Replay { file, log } => {
            let text = text(&file)?;
            if engine::recording::is_recording(&text) {
                recording::replay(&text, log)?
            } else {
                replay(&read(&file, &text)?, log)?
            }
        }
        Command::Scenarios { only, log } => {
            let only = only.unwrap_or_default();
            let all = sim::scenario::all().into_iter();
            let mut clean = true;
            for schedule in all.filter(|schedule| schedule.title.starts_with(&only)) {
                clean &= replay(&schedule, log)?;
            }
            for (id, failure, needs) in sim::scenario::NOT_APPLICABLE {
                println!("{id} {failure}: not applicable until there is {needs}");
            }
            clean
        }
        Command::Scale {
            nodes,
            pods,
            seed,
            cold_start,
        } => scale(nodes, pods, seed, cold_start)?,
        Command::Planted {
            workspace,
            scratch,
            seeds,
            only,
        } => planted::all(&workspace, &scratch, seeds, &only.unwrap_or_default())?,
    };
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Six digits, so that it can be read aloud.
fn random_base() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_nanos() as u64 / 1000 % 1_000_000
}

fn text(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn read(file: &Path, text: &str) -> anyhow::Result<Schedule> {
    serde_json::from_str(text).with_context(|| format!("{} is no schedule", file.display()))
}

struct Run {
    minutes: u64,
    save: PathBuf,
    shrink: bool,
    first: bool,
    except: Vec<u64>,
}

impl Run {
    fn seeds(&self, base: u64, seeds: u64) -> anyhow::Result<bool> {
        println!(
            "seeds {base} to {}, {} simulated minutes of trouble each",
            base + seeds - 1,
            self.minutes
        );
        let began = Instant::now();
        let mut report = Report::default();
        let (mut failed, mut run) = (0, 0);
        for seed in (base..base + seeds).filter(|seed| !self.except.contains(seed)) {
            let schedule = sim::random(seed, self.minutes);
            let outcome = sim::run(&schedule, false)?;
            report.add(outcome.report);
            run += 1;
            if let Some(violation) = outcome.violation {
                failed += 1;
                println!(
                    "seed {seed} (number {run}): {}: {}",
                    violation.oracle, violation.text
                );
                if self.shrink {
                    self.keep(seed, &schedule, &violation)?;
                }
                if self.first {
                    break;
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        print!("{report}");
        println!(
            "{run} seeds ({:.0} a second), {} events ({:.0} a second), {} simulated hours, {failed} failed; base {base}",
            run as f64 / seconds,
            report.events,
            report.events as f64 / seconds,
            report.minutes / 60,
        );
        Ok(failed == 0)
    }

    fn keep(
        &self,
        seed: u64,
        schedule: &Schedule,
        violation: &sim::Violation,
    ) -> anyhow::Result<()> {
        let mut small = sim::shrink(schedule, violation.oracle);
        small.title = format!("seed {seed}: {}", violation.oracle);
        small.known = Some(violation.oracle.to_owned());
        fs::create_dir_all(&self.save)
            .with_context(|| format!("making {}", self.save.display()))?;
        let file = self.save.join(format!("seed-{seed}.json"));
        fs::write(&file, serde_json::to_string_pretty(&small)? + "\n")
            .with_context(|| format!("writing {}", file.display()))?;
        println!(
            "  {} of {} steps are enough: {}",
            small.steps.len(),
            schedule.steps.len(),
            file.display()
        );
        Ok(())
    }
}

fn replay(schedule: &Schedule, log: bool) -> anyhow::Result<bool> {
    let outcome = sim::run(schedule, log)?;
    print!("{}", outcome.log);
    match &outcome.violation {
        None => println!(
            "{}: holds ({} events)",
            schedule.title, outcome.report.events
        ),
        Some(found) => println!(
            "{}: FAILS: {}: {}",
            schedule.title, found.oracle, found.text
        ),
    }
    Ok(outcome.violation.is_none())
}

fn scale(nodes: usize, pods: u16, seed: u64, cold_start: bool) -> anyhow::Result<bool> {
    let began = Instant::now();
    let scale = sim::scale::run(nodes, pods, seed, cold_start)?;
    print!("{scale}");
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{nodes} nodes, {} pods: {} events in {seconds:.0} s",
        nodes * usize::from(pods),
        scale.report.events
    );
    if let Some(found) = &scale.violation {
        println!("FAILS: {}: {}", found.oracle, found.text);
    }
    Ok(scale.violation.is_none())
}
