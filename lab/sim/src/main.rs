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
use sim::{Kind, Life, Report};

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
        /// Only lives of this kind; by default each seed gives one of either.
        #[arg(long, value_parser = kind)]
        kind: Option<Kind>,
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
    /// Trunk pods on nodes that have none of their ENIs, all at once.
    Cold {
        /// How many.
        #[arg(long, default_value_t = 3000)]
        pods: u16,
        /// Nodes.
        #[arg(long, default_value_t = 100)]
        nodes: usize,
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
        /// Only patches whose names start so.
        only: Vec<String>,
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
            kind,
            except,
        } => {
            let run = Run {
                minutes,
                save,
                shrink: !no_shrink,
                first,
                except,
            };
            let base = seed_base.unwrap_or_else(random_base);
            let kinds = kind.map_or(KINDS.to_vec(), |kind| vec![kind]);
            run.seeds(base, seeds, &kinds)?
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
            let mut clean = true;
            for life in sim::scenario::lives() {
                if life.title().starts_with(&only) {
                    clean &= replay(&life, log)?;
                }
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
        Command::Cold { pods, nodes } => {
            let began = Instant::now();
            let cold = sim::region::cold(pods, nodes);
            let seconds = began.elapsed().as_secs_f64();
            print!("{cold}");
            println!(
                "{pods} pods, {nodes} nodes: {} events in {seconds:.0} s",
                cold.events
            );
            cold.ratio() <= sim::region::RATIO
        }
        Command::Planted {
            workspace,
            scratch,
            seeds,
            only,
        } => planted::all(&workspace, &scratch, seeds, &only)?,
    };
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The lives of a seed, in this order.
const KINDS: [Kind; 2] = [Kind::Nodes, Kind::Region];

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "nodes" => Ok(Kind::Nodes),
        "region" => Ok(Kind::Region),
        other => Err(format!("{other} is neither nodes nor region")),
    }
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

fn read(file: &Path, text: &str) -> anyhow::Result<Life> {
    serde_json::from_str(text).with_context(|| format!("{} is no run", file.display()))
}

struct Run {
    minutes: u64,
    save: PathBuf,
    shrink: bool,
    first: bool,
    except: Vec<u64>,
}

impl Run {
    fn seeds(&self, base: u64, seeds: u64, kinds: &[Kind]) -> anyhow::Result<bool> {
        println!(
            "seeds {base} to {}, {} simulated minutes of trouble each",
            base + seeds - 1,
            self.minutes
        );
        let began = Instant::now();
        let mut reports: Vec<Report> = kinds.iter().copied().map(Report::of).collect();
        let (mut failed, mut run) = (0, 0);
        for seed in (base..base + seeds).filter(|seed| !self.except.contains(seed)) {
            run += 1;
            let before = failed;
            for report in &mut reports {
                failed += u64::from(self.life(seed, run, report)?);
            }
            if self.first && failed > before {
                break;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        for report in &reports {
            print!("{report}");
        }
        let events: u64 = reports.iter().map(|report| report.events).sum();
        let minutes: u64 = reports.iter().map(|report| report.minutes).sum();
        println!(
            "{run} seeds ({:.0} a second), {} lives, {events} events ({:.0} a second), {} simulated hours, {failed} failed; base {base}",
            run as f64 / seconds,
            run * kinds.len() as u64,
            events as f64 / seconds,
            minutes / 60,
        );
        Ok(failed == 0)
    }

    /// Runs one life of a seed, the seed with this number; true when it failed.
    fn life(&self, seed: u64, number: u64, report: &mut Report) -> anyhow::Result<bool> {
        let life = Life::random(report.kind, seed, self.minutes);
        let outcome = life.run(false)?;
        report.add(outcome.report);
        let Some(violation) = outcome.violation else {
            return Ok(false);
        };
        println!(
            "seed {seed} (number {number}): {}: {}",
            violation.oracle, violation.text
        );
        if self.shrink {
            self.keep(seed, &life, &violation)?;
        }
        Ok(true)
    }

    fn keep(&self, seed: u64, life: &Life, violation: &sim::Violation) -> anyhow::Result<()> {
        let oracle = violation.oracle;
        let small = sim::shrink(life, oracle).kept(format!("seed {seed}: {oracle}"), oracle);
        fs::create_dir_all(&self.save)
            .with_context(|| format!("making {}", self.save.display()))?;
        let kind = life.kind();
        let file = self.save.join(format!("{kind}-seed-{seed}.json"));
        fs::write(&file, serde_json::to_string_pretty(&small)? + "\n")
            .with_context(|| format!("writing {}", file.display()))?;
        println!(
            "  {} of {} steps are enough: {}",
            small.steps(),
            life.steps(),
            file.display()
        );
        Ok(())
    }
}

fn replay(life: &Life, log: bool) -> anyhow::Result<bool> {
    let outcome = life.run(log)?;
    print!("{}", outcome.log);
    let title = life.title();
    match &outcome.violation {
        None => println!("{title}: holds ({} events)", outcome.report.events),
        Some(found) => println!("{title}: FAILS: {}: {}", found.oracle, found.text),
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
