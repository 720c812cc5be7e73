//! `terway-probe`: what runs in a lab pod. It serves echo and HTTP, or asks such a server and says
//! in one line of JSON what came back.
//!
//! It links statically and a pod needs nothing else. It must never know where it runs: no Kubernetes,
//! no CNI, no names of links.
//!
//! It starts no children. As the first process of a container `pause` and `serve` take the signals a
//! runtime ends a container with; the kernel delivers their default disposition to no such process.

mod arguments;
mod exchange;
mod get;
mod http;
mod json;
mod pattern;
mod pause;
mod report;
mod serve;
mod session;

use std::process::ExitCode;

use arguments::Command;

/// Exit status of a command line that cannot be understood, as with most Unix programs.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(sentence) => {
            eprintln!("terway-probe: {sentence}\n\n{}", arguments::USAGE);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let outcome = match command {
        Command::Help => {
            print!("{}", arguments::USAGE);
            Ok(true)
        }
        Command::Pause => pause::run().map(|()| true),
        Command::Serve(options) => pause::end_by_signal()
            .and_then(|()| serve::run(&options))
            .map(|never| match never {}),
        Command::Get(options) => get::run(&options),
        Command::Exchange(options) => exchange::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("terway-probe: {sentence}");
            ExitCode::FAILURE
        }
    }
}
