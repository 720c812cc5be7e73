//! A container as a runtime makes it: a root with nothing in it but what the image and the manifest put
//! there, processes of its own, the capabilities it was given, the node's network.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use super::template::{Container, Mount};
use crate::node::{BIN, LAB};

/// What a runtime sets where the image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image: the programs, certificates, the node's resolver (`dnsPolicy: Default`), and the machine's
/// shared libraries, for programs that are not linked statically while they are developed. `/proc/sys`
/// and `/sys` are read-only, as in every container that is not privileged.
///
/// `setpriv` is the lab's and not the image's; it has to be inside to be the last thing that runs.
const IMAGE: &str = "set -e
mkdir -p \"$root\"
mount -t tmpfs -o mode=755 none \"$root\"
cd \"$root\"
mkdir -p usr/local/bin etc/ssl proc sys dev
for directory in usr/lib usr/lib64 lib lib64; do
  if [ -L /$directory ]; then cp -P /$directory $directory
  elif [ -d /$directory ]; then mkdir -p $directory; mount --bind -o ro /$directory $directory; fi
done
for program in terwayd terway terway-cli terway-controlplane; do
  if [ -e \"$programs/$program\" ]; then
    touch usr/local/bin/$program; mount --bind -o ro \"$programs/$program\" usr/local/bin/$program; fi
done
mount --bind -o ro /etc/ssl etc/ssl
for file in resolv.conf hosts; do if [ -e /etc/$file ]; then cp -L /etc/$file etc/$file; fi; done
mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys
mount --bind -o ro /sys sys
for device in null zero random urandom; do
  touch dev/$device; mount --bind /dev/$device dev/$device; done
touch .setpriv
mount --bind \"$(command -v setpriv)\" .setpriv
";

/// Starts `container`; what it prints goes to the log `log`.
///
/// # Errors
/// When it cannot be started. A container that cannot be made ends with a status.
pub(super) fn start(container: &Container, log: &str) -> Result<Child> {
    for mount in container.mounts.iter().filter(|mount| mount.made) {
        fs::create_dir_all(&mount.source)
            .with_context(|| format!("cannot create {} on the node", mount.source))?;
    }
    let log = format!("{LAB}/logs/{log}.log");
    let log = File::options().create(true).append(true).open(&log)?;
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    command
        .args(["sh", "-c", &script(container), "sh"])
        .args(&container.words);
    command
        .env_clear()
        .env("PATH", PATH)
        .envs(&container.environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().context("cannot run `unshare`")
}

/// Everything between the new namespaces and the container's own program.
fn script(container: &Container) -> String {
    let mut script = format!(
        "root={LAB}/containers/{} programs={BIN}\n{IMAGE}",
        quoted(&container.name)
    );
    for Mount {
        source,
        target,
        read_only,
        ..
    } in &container.mounts
    {
        let inside = quoted(target.trim_start_matches('/'));
        let made = match Path::new(source).is_file() {
            true => format!("mkdir -p \"$(dirname {inside})\"; touch {inside}"),
            false => format!("mkdir -p {inside}"),
        };
        let options = if *read_only { "-o ro " } else { "" };
        script += &format!(
            "{made}; mount --bind {options}{} {inside}\n",
            quoted(source)
        );
    }
    if !container.writes_its_root {
        script += "mount -o remount,bind,ro \"$root\"; cd \"$root\"\n";
    }
    // What `cd` has left in the environment is not the manifest's.
    script += "unset OLDPWD PWD\n";
    let added: String = container
        .capabilities
        .iter()
        .map(|name| format!(",+{}", name.to_lowercase()))
        .collect();
    let privileges = if container.gains_privileges {
        ""
    } else {
        "--no-new-privs "
    };
    let user = container
        .user
        .map(|(user, group)| format!("--reuid={user} --regid={group} --clear-groups "));
    let user = user.unwrap_or_default();
    script += &format!(
        "exec chroot . /.setpriv {user}--inh-caps=-all --bounding-set=-all{added} {privileges}\"$@\"\n"
    );
    script
}

/// One word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_gives_what_the_manifest_gives_and_no_more() {
        let mut container = Container {
            name: "it's".into(),
            words: vec!["terwayd".into()],
            environment: [].into(),
            capabilities: vec!["DAC_OVERRIDE".into(), "NET_ADMIN".into()],
            gains_privileges: false,
            user: None,
            writes_its_root: false,
            mounts: vec![Mount {
                source: "/var/run/eni".into(),
                target: "/var/run/eni".into(),
                read_only: true,
                made: true,
            }],
            readiness: None,
            liveness: None,
        };
        let script = super::script(&container);
        let last = script.lines().last().unwrap();
        let given = "--bounding-set=-all,+dac_override,+net_admin --no-new-privs \"$@\"";
        assert!(last.ends_with(given), "{last}");
        assert!(
            script.starts_with("root=/run/lab/containers/'it'\\''s'"),
            "{script}"
        );
        assert!(
            script.contains("mount --bind -o ro '/var/run/eni' 'var/run/eni'\n"),
            "{script}"
        );
        assert!(script.contains("remount,bind,ro \"$root\""));
        container.capabilities.clear();
        container.user = Some((65532, 0));
        container.writes_its_root = true;
        let script = super::script(&container);
        assert!(
            script
                .lines()
                .last()
                .unwrap()
                .contains(
                    "--reuid=65532 --regid=0 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
                )
        );
        assert!(!script.contains("remount"));
    }
}
