//! `terway-lab`: the lab's command line.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match stage::cli::run(stage::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("terway-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
