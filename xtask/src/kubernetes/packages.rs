//! Packages of one release of the distribution, fetched by an apt of the cache's own and unpacked there.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};

use super::{Cache, say};
use crate::build::must;

/// The release that has the source package and the Go it can be built with.
const SUITES: [(&str, &str); 2] = [
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages that are unpacked: Go and a library to build with, and programs to run.
const PACKAGES: [&str; 6] = [
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-github-modern-go-reflect2-dev",
    "etcd-server",
    "containerd",
    "runc",
];
/// The source package.
const SOURCE: &str = "kubernetes";

/// Fetches every package to `debs`.
pub(super) fn fetch(cache: &Cache) -> anyhow::Result<()> {
    let apt = cache.at("apt");
    cache.step("debs", "fetching 160 MB of packages", |draft| {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: run `apt-get install debian-archive-keyring`");
        }
        let line = |(uri, suite): &(&str, &str)| {
            let what = format!("[signed-by={KEYRING}] {uri} {suite} main");
            format!("deb {what}\ndeb-src {what}\n")
        };
        let sources: String = SUITES.iter().map(line).collect();
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(directory)).context("making apt's directories")?;
        }
        fs::write(apt.join("sources.list"), sources).context("writing apt's sources")?;
        run(&apt, draft, &["update"])?;
        run(&apt, draft, &[&["download"], &PACKAGES[..]].concat())?;
        run(&apt, draft, &["source", "--download-only", SOURCE])
    })?;
    Ok(())
}

/// Unpacks the packages to `root`; no script of theirs runs.
pub(super) fn unpack(cache: &Cache) -> anyhow::Result<()> {
    let debs = cache.at("debs");
    cache.step("root", "unpacking packages", |draft| {
        for entry in fs::read_dir(&debs).with_context(|| format!("reading {}", debs.display()))? {
            let package = entry?.path();
            if package.extension().is_some_and(|end| end == "deb") {
                let mut dpkg = Command::new("dpkg-deb");
                dpkg.arg("-x").arg(&package).arg(draft);
                must(dpkg, &format!("unpacking {}", package.display()))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The source package's upstream archive.
pub(super) fn upstream(cache: &Cache) -> anyhow::Result<std::path::PathBuf> {
    let debs = cache.at("debs");
    let entries = fs::read_dir(&debs).with_context(|| format!("reading {}", debs.display()))?;
    let mut names = entries.flatten().map(|entry| entry.path());
    let found = names.find(|path| path.to_string_lossy().ends_with(".orig.tar.gz"));
    found.with_context(|| format!("no .orig.tar.gz in {}", debs.display()))
}

/// An apt that reads and writes only below `home`, and puts what it fetches in `draft`.
fn run(home: &Path, draft: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    say(&format!("apt-get {}", arguments.join(" ")));
    let mut apt = Command::new("apt-get");
    let paths = [
        ("Dir::Etc::sourcelist", home.join("sources.list")),
        ("Dir::Etc::sourceparts", "-".into()),
        ("Dir::State::Lists", home.join("lists")),
        ("Dir::Cache", home.join("cache")),
    ];
    for (option, path) in paths {
        apt.arg("-o").arg(format!("{option}={}", path.display()));
    }
    // The user apt would change to cannot write into a checkout.
    apt.args(["-o", "APT::Sandbox::User=root", "--quiet=2"]);
    apt.args(arguments).current_dir(draft);
    must(apt, &format!("apt-get {}", arguments.join(" ")))
}
