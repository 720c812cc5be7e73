//! Sizes, module headers, names, and the share of code that does not ship.

use std::path::{Path, PathBuf};

use super::{Breach, has_end, read};

/// Lines above which a file needs to be split. The aim is 400.
const FILE_LINES_MAX: usize = 700;

/// Lines above which a function needs to be split. The aim is 70.
const FUNCTION_LINES_MAX: usize = 100;

/// Module names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "manager"];

/// Unsafe code is argued for in these places and forbidden in all others.
const UNSAFE: [&str; 2] = ["crates/datapath/", "bpf/"];

pub(super) fn check(files: &[PathBuf]) -> anyhow::Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| has_end(file, "rs")) {
        let text = read(file)?;
        let name = file.display();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!(
                "{name} has {lines} lines; split it (aim 400, at most {FILE_LINES_MAX})"
            ));
        }
        let test_part = file.components().any(|part| part.as_os_str() == "tests");
        if !text.starts_with("//!") && !test_part {
            breaches.push(format!(
                "{name} does not open with a //! that says what it is"
            ));
        }
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            breaches.push(format!("{name}: the module's name says nothing"));
        }
        if !UNSAFE.iter().any(|place| file.starts_with(place)) && has_unsafe(&text) {
            breaches.push(format!("{name} holds unsafe code outside the fence"));
        }
        breaches.extend(long_functions(file, &text));
    }
    Ok(breaches)
}

fn has_unsafe(text: &str) -> bool {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    code.into_iter().any(|line| {
        line.contains(concat!("uns", "afe {")) || line.contains(concat!("uns", "afe impl"))
    })
}

/// Functions by indentation: rustfmt closes each where it opened.
fn long_functions(file: &Path, text: &str) -> Vec<Breach> {
    let lines: Vec<&str> = text.lines().collect();
    let mut breaches = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line
            .trim_start()
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ");
        let head = head
            .trim_start_matches("pub(super) ")
            .trim_start_matches("async ")
            .trim_start_matches("const ");
        if !head.starts_with("fn ") {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines[start..].iter().position(|line| *line == close) else {
            continue;
        };
        if length + 1 > FUNCTION_LINES_MAX {
            let name = head.split(['(', '<']).next().unwrap_or_default();
            breaches.push(format!(
                "{}:{} {name} has {} lines; split it (aim 70, at most {FUNCTION_LINES_MAX})",
                file.display(),
                start + 1,
                length + 1
            ));
        }
    }
    breaches
}

/// Prints how many lines do not ship for each that does. Tests count on neither side.
pub(super) fn print_ratio(files: &[PathBuf]) -> anyhow::Result<()> {
    let (mut shipped, mut lab) = (0, 0);
    for file in files {
        let code = has_end(file, "rs") || has_end(file, "c");
        let test = file.components().any(|part| part.as_os_str() == "tests");
        if !code || test {
            continue;
        }
        let lines = read(file)?;
        let lines = lines
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        if file.starts_with("lab") {
            lab += lines;
        } else if file.starts_with("crates") || file.starts_with("bins") || file.starts_with("bpf")
        {
            shipped += lines;
        }
    }
    let percent = lab * 100 / shipped.max(1);
    println!("tidy: {shipped} lines ship, {lab} lines of lab beside them: {percent} % (aim 70 %)");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_found() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        let text = format!("//! x\nfn short() {{\n}}\n\npub(crate) fn long(a: u8) {{\n{body}}}\n");
        let breaches = long_functions(Path::new("a.rs"), &text);
        assert_eq!(breaches.len(), 1, "{breaches:?}");
        assert!(breaches[0].contains("long"));
    }

    #[test]
    fn unsafe_code_is_seen_and_its_mention_is_not() {
        assert!(has_unsafe(concat!("    uns", "afe { x() }")));
        assert!(!has_unsafe(concat!("// uns", "afe { x() }")));
    }
}
