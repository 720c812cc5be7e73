//! `cargo xtask real-k8s`: the programs of a real Kubernetes, built from the distribution's source package.
//!
//! No registry, no container daemon, no daemon started, no file of the system changed: packages are
//! fetched by a private apt and unpacked below the cache. A step that is done leaves its directory under
//! its final name and is not done again, so it may be killed at any moment and goes on where it was.

mod compile;
mod packages;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};

use crate::build::{must, root};

/// Names another place for the cache.
const CACHE: &str = "TERWAY_REAL_K8S";

/// Version of the source package's content.
const VERSION: (u32, u32, u32) = (1, 20, 2);

/// What the cache was made by; another one begins anew. To be raised with every change of a step.
const RECIPE: &str = "kubernetes 1.20.2, recipe 1";

/// What is compiled, and how long that takes on two cores from nothing, in seconds.
const COMPILED: [(&str, u32); 5] = [
    ("kube-apiserver", 270),
    ("kube-controller-manager", 60),
    ("kube-scheduler", 20),
    ("kubelet", 40),
    ("kube-proxy", 5),
];

/// What is taken from packages as it is, by its place in them.
const TAKEN: [&str; 5] = [
    "usr/bin/etcd",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
    "usr/sbin/runc",
];

/// What only the building needs: 2.5 GB.
const SCAFFOLDING: [&str; 7] = ["apt", "debs", "gocache", "gopath", "root", "src", "tools"];

/// Directories of the cache.
pub(crate) struct Cache(PathBuf);

impl Cache {
    fn open() -> Self {
        let named = std::env::var_os(CACHE).map(PathBuf::from);
        // Not cargo's target directory: that one is emptied more often than this is worth building.
        Self(named.unwrap_or_else(|| root().join("target/real-k8s")))
    }

    /// The finished programs.
    fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether everything is there.
    fn is_complete(&self) -> bool {
        let made = fs::read_to_string(self.at("complete")).unwrap_or_default();
        let taken = TAKEN.iter().filter_map(|path| path.rsplit('/').next());
        let mut all = COMPILED.iter().map(|(program, _)| *program).chain(taken);
        made == RECIPE && all.all(|program| self.programs().join(program).exists())
    }

    /// Makes the directory `name` by `make`, in a place of its own first, unless it is there.
    fn step(
        &self,
        name: &str,
        what: &str,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let done = self.at(name);
        if done.exists() {
            return Ok(done);
        }
        let begun = Instant::now();
        say(what);
        let draft = self.at(&format!("{name}.draft"));
        remove(&draft)?;
        fs::create_dir_all(&draft).with_context(|| format!("making {}", draft.display()))?;
        make(&draft)?;
        fs::rename(&draft, &done).with_context(|| format!("finishing {}", done.display()))?;
        say(&format!("{what}: {} s", begun.elapsed().as_secs()));
        Ok(done)
    }
}

/// Makes sure that the programs are there, and returns where.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let cache = Cache::open();
    fs::create_dir_all(&cache.0).with_context(|| format!("making {}", cache.0.display()))?;
    let lock = File::create(cache.at("lock")).context("making the cache's lock")?;
    // Two builders at once would only take turns at the processors.
    lock.lock().context("waiting for another builder")?;
    if cache.is_complete() {
        say(&format!(
            "Kubernetes {} is in {}",
            version(),
            cache.programs().display()
        ));
        return Ok(cache.programs());
    }
    begin_anew_if_old(&cache)?;
    say(
        "building Kubernetes from the distribution's source package: about 7 minutes on two idle cores, 3 GB",
    );
    packages::fetch(&cache)?;
    packages::unpack(&cache)?;
    compile::programs(&cache)?;
    for path in TAKEN {
        let from = cache.at("root").join(path);
        let to = cache.programs().join(from.file_name().unwrap_or_default());
        let draft = to.with_extension("draft");
        fs::copy(&from, &draft)
            .and_then(|_| fs::rename(&draft, &to))
            .with_context(|| format!("copying {}", from.display()))?;
    }
    check(&cache)?;
    fs::write(cache.at("complete"), RECIPE).context("finishing the cache")?;
    for name in SCAFFOLDING {
        remove(&cache.at(name))?;
    }
    say(&format!(
        "Kubernetes {} is in {}",
        version(),
        cache.programs().display()
    ));
    Ok(cache.programs())
}

/// Removes what another recipe has made.
fn begin_anew_if_old(cache: &Cache) -> anyhow::Result<()> {
    let mark = cache.at("recipe");
    if fs::read_to_string(&mark).unwrap_or_default() == RECIPE {
        return Ok(());
    }
    remove(&cache.at("complete"))?;
    remove(&cache.programs())?;
    for name in SCAFFOLDING {
        remove(&cache.at(name))?;
    }
    fs::write(&mark, RECIPE).with_context(|| format!("writing {}", mark.display()))
}

/// Every program says a version.
fn check(cache: &Cache) -> anyhow::Result<()> {
    for (program, _) in COMPILED {
        let output = Command::new(cache.programs().join(program))
            .arg("--version")
            .output()
            .with_context(|| format!("starting {program}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if said.trim() != format!("Kubernetes v{}", version()) {
            bail!(
                "{program} says that it is {said:?}, and not version {}",
                version()
            );
        }
    }
    for path in TAKEN {
        let program = cache
            .programs()
            .join(path.rsplit('/').next().unwrap_or(path));
        let mut asked = Command::new(&program);
        asked.arg(if path.ends_with("shim-runc-v2") {
            "-v"
        } else {
            "--version"
        });
        asked.stdout(std::process::Stdio::null());
        must(asked, &format!("{} --version", program.display()))?;
    }
    Ok(())
}

fn version() -> String {
    let (major, minor, patch) = VERSION;
    format!("{major}.{minor}.{patch}")
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false if path.exists() => fs::remove_file(path),
        false => Ok(()),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}

fn say(text: &str) {
    eprintln!("xtask: real-k8s: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_was_killed_begins_again_and_a_finished_one_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache(home.path().to_owned());
        let failed = cache.step("debs", "first", |draft| {
            fs::write(draft.join("half"), "")?;
            bail!("killed")
        });
        assert!(failed.is_err() && !cache.at("debs").exists());
        let done = cache.step("debs", "second", |draft| {
            assert!(!draft.join("half").exists(), "a new draft is empty");
            Ok(fs::write(draft.join("whole"), "")?)
        });
        assert!(done.unwrap().join("whole").exists());
        let again = cache.step("debs", "third", |_| bail!("not again"));
        again.unwrap();
    }

    #[test]
    fn another_recipe_leaves_nothing_of_the_old_one() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache(home.path().to_owned());
        fs::create_dir_all(cache.programs()).unwrap();
        fs::write(cache.at("recipe"), "older").unwrap();
        fs::write(cache.at("complete"), "older").unwrap();
        assert!(!cache.is_complete());
        begin_anew_if_old(&cache).unwrap();
        assert!(!cache.programs().exists() && !cache.at("complete").exists());
        fs::create_dir_all(cache.at("debs")).unwrap();
        begin_anew_if_old(&cache).unwrap();
        assert!(
            cache.at("debs").exists(),
            "the same recipe goes on where it was"
        );
    }
}
