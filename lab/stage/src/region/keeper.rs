//! A process tree that the region keeps by a pipe, with a line to talk to its first process.
//!
//! It lives exactly as long as the region holds the pipe of its standard input: whatever ends the
//! region ends it.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time::timeout,
};

use crate::control::{Answer, NodeRequest, line};

/// How long it may take to stand (a dozen mounts) or to answer; it does no long work in between.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long its processes may take to end after they were killed.
const END_MAX: Duration = Duration::from_secs(10);

/// A process tree that stands.
pub(super) struct Keeper {
    name: String,
    /// The process that holds the tree, as the region's namespace numbers it.
    pub(super) pid: u32,
    line: Mutex<Line>,
}

struct Line {
    child: Child,
    requests: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Keeper {
    /// Starts `command`, whose standard error goes where it was sent, and waits until it stands.
    ///
    /// # Errors
    /// When it cannot be started, or says why it does not stand.
    pub(super) async fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run `unshare`: run `apt-get install util-linux`")?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| anyhow!("{name} has no standard output"))?;
        let mut line = Line {
            child,
            requests,
            answers: BufReader::new(answers).lines(),
        };
        line.answer()
            .await
            .with_context(|| format!("{name} does not come up"))?;
        let pid = line.child.id().ok_or_else(|| anyhow!("{name} has ended"))?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            line: Mutex::new(line),
        })
    }

    /// Asks its first process.
    pub(super) async fn ask(&self, request: &NodeRequest) -> Result<Value> {
        let mut line = self.line.lock().await;
        let asked = line.ask(request).await;
        if asked.is_err() {
            // Its answer, should it still come, would be taken for that to a later question.
            line.requests = None;
        }
        asked.with_context(|| format!("{} does not answer and is ended", self.name))?
    }

    /// Ends it with everything in it.
    pub(super) async fn stop(&self) -> Result<()> {
        let mut line = self.line.lock().await;
        line.requests = None;
        if timeout(END_MAX, line.child.wait()).await.is_err() {
            line.child
                .kill()
                .await
                .with_context(|| format!("{} does not end", self.name))?;
        }
        Ok(())
    }
}

impl Line {
    /// The outer error is the line's, the inner one the answer.
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
