//! The demo: the product's main job on a lab of two nodes, each step shown and each claim checked.
//!
//! It uses the lab as a person would, through `kubectl`, `ping` and the programs of the distribution.
//! A claim that does not hold fails the demo, and every claim can be made to fail: see [`Break`].

mod act;
mod screen;
mod steps;
mod walk;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use self::{act::Stage, screen::Screen};
use crate::{
    cli::up,
    region::{KubernetesArgs, PoolArgs, RegionArgs},
    statedir::StateDir,
};

/// What the demo is run with.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Print one document instead of the story
    #[arg(long)]
    json: bool,
    /// Damage one thing, so that the check of that name fails
    #[arg(long = "break", value_name = "WHAT")]
    broken: Option<Break>,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// Where terway, terwayd and terway-probe are [default: beside this program]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

/// The demo's region: two nodes, and pools that 20 rounds of ADD do not outgrow, on one ENI each so
/// that what the kernels hold can be compared before and after.
fn region(bin_dir: Option<PathBuf>) -> RegionArgs {
    RegionArgs {
        nodes: 2,
        bin_dir,
        instance_type: None,
        one_zone: false,
        pool: PoolArgs {
            min_pool_size: 10,
            max_pool_size: 30,
            ip_cooldown: "1s".into(),
            prefixes: None,
            trunk: false,
            vpc: false,
        },
        kubernetes: KubernetesArgs::default(),
    }
}

/// What can be damaged on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Break {
    /// Delete the rule that sends a pod's packets to its ENI: check `ping` fails
    Rule,
    /// Switch source checks off, on the node and in the cloud: check `spoof` fails
    Spoof,
    /// Leave a rule behind as if a DEL had forgotten it: check `bill` fails
    Leak,
}

/// One claim and whether it held.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    text: String,
    figures: Value,
}

/// The demo under way.
struct Demo {
    stage: Stage,
    screen: Screen,
    broken: Option<Break>,
    checks: Vec<Check>,
    begun: Instant,
}

/// What the demo takes once the programs are built, said before it starts.
const ESTIMATE: Duration = Duration::from_secs(20);

/// Runs the demo in a lab of its own and takes the lab down.
///
/// # Errors
/// When a step cannot be carried out at all; a claim that does not hold is an exit code.
pub(crate) fn run(dir: &StateDir, args: &DemoArgs) -> Result<ExitCode> {
    let screen = Screen::new(!args.json);
    screen.say(&format!(
        "two nodes, their ENIs and pods, about {} s",
        ESTIMATE.as_secs()
    ));
    let begun = Instant::now();
    let status = up::bring(dir, &region(args.bin_dir.clone()))?;
    let mut demo = Demo {
        stage: Stage::new(dir.clone()),
        screen,
        broken: args.broken,
        checks: Vec::new(),
        begun,
    };
    let told = demo.tell(&status);
    let downed = if args.keep { Ok(()) } else { up::down(dir) };
    told?;
    downed?;
    Ok(demo.conclude(args.json))
}

impl Demo {
    fn tell(&mut self, status: &Value) -> Result<()> {
        self.region(status)?;
        let before = self.stage.bill()?;
        self.pods()?;
        self.ping()?;
        self.walk()?;
        self.spoof()?;
        self.kill()?;
        self.add_times()?;
        self.calls()?;
        self.bill(&before)
    }

    fn is_broken(&self, what: Break) -> bool {
        self.broken == Some(what)
    }

    fn check(&mut self, name: &'static str, ok: bool, text: String, figures: Value) {
        self.screen.verdict(ok, name, &text);
        self.checks.push(Check {
            name,
            ok,
            text,
            figures,
        });
    }

    fn conclude(&self, as_json: bool) -> ExitCode {
        let ok = self.checks.iter().all(|check| check.ok);
        let seconds = self.begun.elapsed().as_secs_f64();
        if as_json {
            let document = json!({ "ok": ok, "seconds": seconds, "checks": self.checks });
            println!("{document:#}");
        } else {
            self.screen.end(&self.checks, seconds);
        }
        if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
