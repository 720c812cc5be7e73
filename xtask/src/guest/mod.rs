//! Running a program under another kernel: Linux as an ordinary process of this machine (user-mode Linux),
//! with the machine's own files as its root, read-only. It has what this machine's kernel may lack.
//!
//! The guest sees no network but what is made inside, and lives in a PID namespace that ends with us.
//! Knows nothing of tests.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::build::{must, target};

/// The kernel, a program of the distribution's package `user-mode-linux`.
const KERNEL: &str = "linux.uml";
/// Its modules, by release.
const MODULES: &str = "/usr/lib/uml/modules";
/// Memory of the guest: four times what the tests were seen to need, and taken only as it is used.
const MEMORY: &str = "512M";
/// How often we look whether the guest has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const INIT: &str = include_str!("init.sh");

/// What the guest runs.
pub(crate) struct Work<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [String],
    pub(crate) directory: &'a Path,
    /// How long it may take, from before the kernel starts. On a loaded machine, so several times what it does.
    pub(crate) within: Duration,
}

/// Boots a guest, runs `work` in it with its output on ours, and tells whether that succeeded.
///
/// # Errors
/// A guest that cannot be started, does not end in time or ends without saying how.
pub(crate) fn run(work: &Work<'_>) -> anyhow::Result<bool> {
    let home = furnish(work)?;
    let mut guest = boot(&home)?;
    let ended = wait(&mut guest, work.within);
    let ended = ended.with_context(|| format!("waiting for {KERNEL}"))?;
    let Some(ended) = ended else {
        bail!(
            "the guest did not end within {} s and was killed; the last lines above say where it was",
            work.within.as_secs()
        );
    };
    let status = fs::read_to_string(home.join("status")).with_context(|| {
        format!("the guest ended ({ended}) without a result; the last lines above say where it was")
    })?;
    Ok(status.trim() == "0")
}

/// Makes the directory the guest finds its orders in.
fn furnish(work: &Work<'_>) -> anyhow::Result<PathBuf> {
    let home = target().join("guest");
    let making = || format!("making the guest's directory {}", home.display());
    if home.exists() {
        fs::remove_dir_all(&home).with_context(making)?;
    }
    let release = release()?;
    let modules = home.join("lib/modules").join(&release);
    fs::create_dir_all(&modules).with_context(making)?;
    // The package's own directory is not ours to index.
    let packaged = Path::new(MODULES).join(&release).join("kernel");
    symlink(packaged, modules.join("kernel")).with_context(making)?;
    let mut depmod = Command::new("depmod");
    // It warns of lists of built-in modules that the package does not have.
    depmod.args(["-b".as_ref(), home.as_os_str()]).arg(&release);
    depmod.stderr(Stdio::null());
    must(depmod, "depmod")?;
    let command: Vec<String> = std::iter::once(work.program.display().to_string())
        .chain(work.arguments.iter().cloned())
        .map(|word| quoted(&word))
        .collect();
    let directory = quoted(&work.directory.display().to_string());
    let scripts = [
        ("init", INIT.to_owned()),
        (
            "command",
            format!("cd {directory} && {}\n", command.join(" ")),
        ),
        (
            "modprobe",
            format!(
                "#!/bin/sh\nexec /usr/sbin/modprobe -d {} \"$@\"\n",
                quoted(&home.display().to_string())
            ),
        ),
    ];
    for (name, text) in scripts {
        let path = home.join(name);
        fs::write(&path, text).with_context(making)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(making)?;
    }
    Ok(home)
}

/// What the kernel calls itself, and so its modules.
fn release() -> anyhow::Result<String> {
    let output = Command::new(KERNEL).arg("--version").output();
    let output = output.with_context(|| format!("running {KERNEL} --version"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if text.is_empty() || !Path::new(MODULES).join(&text).is_dir() {
        bail!("{KERNEL} is release {text:?}, of which there are no modules in {MODULES}");
    }
    Ok(text)
}

fn boot(home: &Path) -> anyhow::Result<Child> {
    let mut guest = Command::new("unshare");
    // Every process of the guest is one of ours: they die with the first, and that with unshare.
    guest.args(["--pid", "--fork", "--kill-child", "--net", "--", KERNEL]);
    guest.args(["rootfstype=hostfs", "root=/dev/root", "rootflags=/", "ro"]);
    guest.arg(format!("mem={MEMORY}"));
    guest.args([
        "con0=null,fd:1",
        "con=null",
        "ssl=null",
        "quiet",
        "loglevel=1",
    ]);
    for (name, path) in [
        ("init", home.join("init")),
        ("uml_dir", home.to_owned()),
        ("GUEST_HOME", home.to_owned()),
    ] {
        guest.arg(format!("{name}={}", path.display()));
    }
    guest.stdin(Stdio::null());
    guest.spawn().context("starting the guest by unshare")
}

/// Waits until the guest ends; `None` when it did not and was killed.
fn wait(guest: &mut Child, within: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = guest.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK_EVERY);
    }
    guest.kill()?;
    guest.wait().map(|_| None)
}

/// A word as the shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
