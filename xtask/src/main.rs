//! The repository's own commands: `cargo xtask demo`, `cargo xtask test`, `cargo xtask tidy`,
//! `cargo xtask bench`. Each installs what it needs and says what it does.

mod build;
mod guest;
mod image;
mod kubernetes;
mod machine;
mod run;
mod sim;
mod tidy;
mod tiers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the product's main job on this machine and show it.
    Demo {
        /// Passed on to `terway-lab demo`, for example --json or --break rule.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every test.
    Test {
        /// Only tiers T0 to T3.
        #[arg(long, conflicts_with = "tier")]
        quick: bool,
        /// Only this one: t0, t1, ... or a name, such as real-k8s.
        #[arg(long, value_name = "NAME")]
        tier: Option<String>,
    },
    /// Check the repository's rules.
    Tidy,
    /// Measure ADD and DEL against the reference plugins and write docs/benchmarks.md.
    Bench {
        /// Passed on to `terway-lab bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the simulator: seeds by default (`--seeds N [--seed-base X] [--minutes M]`), or one of its
    /// other commands (`replay FILE`, `scenarios`, `scale`, `planted`).
    Sim {
        /// Passed on to `terway-sim`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Damage inputs of every parser at a border (`--seconds N`, `--seed X`, `--only NAME`).
    Fuzz {
        /// Passed on to `terway-fuzz`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install what the others need and build the programs, nothing else.
    Build,
    /// Build a real Kubernetes from the distribution's source package, for tier T6 and the lab.
    RealK8s,
    /// Write the images as OCI archives, with what is inside and their digests.
    Image {
        /// For which processor; without it, for this machine's.
        #[arg(long)]
        arch: Option<image::Wanted>,
        /// Where to [default: target/images]
        #[arg(long, value_name = "DIR")]
        out: Option<std::path::PathBuf>,
        /// As which release, to rehearse an upgrade [default: this one's]
        #[arg(long)]
        version: Option<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { arguments } => run::demo(&arguments),
        Command::Test { quick, tier } => run::test(quick, tier.as_deref()),
        Command::Tidy => tidy::run(),
        Command::Bench { arguments } => run::bench(&arguments),
        Command::Image { arch, out, version } => image::run(arch, out, version.as_deref()),
        Command::RealK8s => kubernetes::build().map(drop),
        Command::Sim { arguments } => sim::run(&arguments),
        Command::Fuzz { arguments } => sim::fuzz(&arguments),
        Command::Build => machine::prepare(machine::Need::Lab).and_then(|()| build::programs()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
