//! The repository's own commands: `cargo xtask demo`, `cargo xtask test`, `cargo xtask tidy`,
//! `cargo xtask bench`. Each installs what it needs and says what it does.

mod build;
mod machine;
mod run;
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
        #[arg(long)]
        quick: bool,
    },
    /// Check the repository's rules.
    Tidy,
    /// Measure ADD and DEL against the reference plugins and write docs/benchmarks.md.
    Bench {
        /// Passed on to `terway-lab bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install what the others need and build the programs, nothing else.
    Build,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { arguments } => run::demo(&arguments),
        Command::Test { quick } => run::test(quick),
        Command::Tidy => tidy::run(),
        Command::Bench { arguments } => run::bench(&arguments),
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
