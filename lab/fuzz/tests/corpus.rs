//! Every target takes its seeds, what once broke it, and the same few thousand damaged inputs each time.

use std::{fs, path::Path};

use fuzz::{Mutator, TARGETS};

/// Damaged inputs a target: a second or two in all.
const INPUTS: usize = 2000;

#[test]
fn what_once_broke_a_parser_does_not_any_more() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for directory in fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap()) {
        let target = TARGETS
            .iter()
            .find(|target| *target.name == *directory.file_name());
        let target = target.expect("each directory of the corpus is of a target");
        for file in fs::read_dir(directory.path()).unwrap() {
            (target.run)(&fs::read(file.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn no_damaged_input_breaks_a_parser() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        seeds.iter().for_each(|seed| (target.run)(seed));
        let mut mutator = Mutator::new(1);
        for number in 0..INPUTS {
            let input = mutator.damaged(&seeds);
            let run = std::panic::catch_unwind(|| (target.run)(&input));
            let shown = String::from_utf8_lossy(&input);
            assert!(run.is_ok(), "{} number {number}: {shown}", target.name);
        }
    }
}
