//! Nodes as the region sees them: a process tree with a line to talk to it, and an instance.
//!
//! A node lives exactly as long as the region holds the pipe of its standard input: whatever ends the
//! region ends its nodes.

use std::{
    fs::{self, File},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use model::InstanceId;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time::timeout,
};

use crate::{
    control::{Answer, NodeRequest, line},
    netns,
    node::NodeArgs,
    statedir::StateDir,
    tool,
};

/// How long a node may take to stand (a dozen mounts) or to answer; it does no long work in between.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a node's processes may take to end after they were killed.
const END_MAX: Duration = Duration::from_secs(10);

/// What is counted of a node's kernel, and the command that lists it.
const COUNTED: [(&str, &str); 3] = [
    ("links", "ip -j link show"),
    ("rules", "ip -j rule show"),
    ("routes", "ip -j route show table all"),
];

/// A node that stands.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) instance: InstanceId,
    /// The process that keeps the node's namespaces, as the region's namespace numbers it.
    pub(super) pid: u32,
    netns: OwnedFd,
    line: Mutex<Line>,
}

struct Line {
    child: Child,
    requests: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts the node's namespaces and its first process; nothing runs there yet.
    pub(super) async fn start(
        dir: &StateDir,
        args: &NodeArgs,
        instance: InstanceId,
    ) -> Result<Self> {
        let name = args.name.clone();
        let log = dir.log(&name);
        let log = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        fs::create_dir_all(dir.node(&name)).context("cannot create the node's directory")?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--pid", "--uts", "--ipc"]);
        unshare.args(["--propagation", "private", "--fork", "--kill-child"]);
        unshare.arg(std::env::current_exe().context("cannot find my own program")?);
        unshare.arg("node").arg("--dir").arg(dir.path());
        unshare
            .arg("--name")
            .arg(&name)
            .arg("--bin-dir")
            .arg(&args.bin_dir);
        if let Some(cgroup) = &args.cgroup {
            unshare.arg("--cgroup").arg(cgroup);
        }
        let mut child = unshare
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot run `unshare`: run `apt-get install util-linux`")?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| anyhow!("the node has no standard output"))?;
        let mut line = Line {
            child,
            requests,
            answers: BufReader::new(answers).lines(),
        };
        line.answer()
            .await
            .with_context(|| format!("node {name} does not come up"))?;
        let pid = line
            .child
            .id()
            .ok_or_else(|| anyhow!("node {name} has ended"))?;
        let netns = File::open(format!("/proc/{pid}/ns/net"))
            .with_context(|| format!("cannot open the network namespace of node {name}"))?;
        let (netns, line) = (netns.into(), Mutex::new(line));
        Ok(Self {
            name,
            instance,
            pid,
            netns,
            line,
        })
    }

    /// A descriptor of the node's network namespace.
    pub(super) fn netns(&self) -> Result<OwnedFd> {
        self.netns.try_clone().context("cannot copy a descriptor")
    }

    /// Asks the node.
    pub(super) async fn ask(&self, request: &NodeRequest) -> Result<Value> {
        let mut line = self.line.lock().await;
        let asked = line.ask(request).await;
        if asked.is_err() {
            // Its answer, should it still come, would be taken for that to a later question.
            line.requests = None;
        }
        asked.with_context(|| format!("node {} does not answer and is ended", self.name))?
    }

    /// Ends the node with everything that runs there.
    pub(super) async fn stop(&self) -> Result<()> {
        let mut line = self.line.lock().await;
        line.requests = None;
        if timeout(END_MAX, line.child.wait()).await.is_err() {
            line.child
                .kill()
                .await
                .with_context(|| format!("node {} does not end", self.name))?;
        }
        Ok(())
    }

    /// How many links, rules and routes the node has. Blocks for three `ip` commands.
    pub(super) fn kernel(&self) -> Result<Value> {
        let count = |(what, command): (&str, &str)| -> Result<(String, Value)> {
            let list: Vec<Value> = serde_json::from_str(&tool::run(command)?)?;
            Ok((what.to_owned(), list.len().into()))
        };
        let counts = netns::inside(self.netns.as_fd(), || {
            COUNTED.into_iter().map(count).collect()
        });
        let counts: Result<serde_json::Map<_, _>> =
            counts.with_context(|| format!("cannot enter node {}", self.name))?;
        Ok(Value::Object(counts?))
    }
}

impl Line {
    /// The outer error is the line's, the inner one the node's answer.
    async fn ask(&mut self, request: &NodeRequest) -> Result<Result<Value>> {
        let requests = self
            .requests
            .as_mut()
            .ok_or_else(|| anyhow!("it was stopped"))?;
        requests
            .write_all(&line(request)?)
            .await
            .context("its input is closed")?;
        let answer = self.next().await?;
        Ok(Answer::read(&answer))
    }

    async fn answer(&mut self) -> Result<Value> {
        Answer::read(&self.next().await?)
    }

    async fn next(&mut self) -> Result<String> {
        match timeout(ANSWER_MAX, self.answers.next_line()).await {
            Err(_) => bail!("nothing came within {ANSWER_MAX:?}"),
            Ok(line) => line?.ok_or_else(|| anyhow!("it has ended; its log says why")),
        }
    }
}

/// Where a cgroup of this name would be; `None` without a cgroup2 mount.
pub(super) fn cgroup(name: &str) -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let at = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, at, "cgroup2", ..] => Some(Path::new(at).join(name)),
        _ => None,
    };
    Ok(mounts.lines().find_map(at))
}
