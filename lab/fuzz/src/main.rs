//! `terway-fuzz`: damages inputs for as long as it is told to, and keeps those that break something.

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::Parser;
use fuzz::{Mutator, TARGETS, Target};

/// Inputs of one target before the next has its turn.
const TURN: u32 = 500;

/// Damages inputs of every parser at a border.
#[derive(Parser)]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the damage follows from; by default a random number, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only targets whose name starts so.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let random = since.unwrap_or_default().as_nanos() as u64 % 1_000_000;
    let seed = arguments.seed.unwrap_or(random);
    println!("seed {seed}, {} s", arguments.seconds);
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut mutator = Mutator::new(seed);
    let mut running: Vec<_> = TARGETS
        .iter()
        .filter(|target| target.name.starts_with(&arguments.only))
        .map(|target| (target, (target.seeds)(), 0_u64))
        .collect();
    anyhow::ensure!(
        !running.is_empty(),
        "no target is called {}",
        arguments.only
    );
    let mut found = Vec::new();
    while Instant::now() < end && found.is_empty() {
        for (target, seeds, runs) in &mut running {
            for _ in 0..TURN {
                *runs += 1;
                let input = mutator.damaged(seeds);
                if catch_unwind(|| (target.run)(&input)).is_err() {
                    found.push(keep(target, &input)?);
                    break;
                }
            }
        }
    }
    for (target, _, runs) in &running {
        println!("{:>10} inputs  {}", runs, target.name);
    }
    for file in &found {
        println!("FAILS: {}", file.display());
    }
    Ok(match found.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Keeps an input where the tests run it again.
fn keep(target: &Target, input: &[u8]) -> anyhow::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let number = fs::read_dir(&directory)?.count();
    let file = directory.join(format!("{number:03}"));
    fs::write(&file, input).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
