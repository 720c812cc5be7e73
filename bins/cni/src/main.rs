//! The CNI plugin: reads the runtime's request, sends it to the agent with the descriptors of the
//! pod's namespace, writes the pod's sysctls, prints the answer.
//!
//! It changes no link, route or rule and knows no netlink message: the agent applies, the plugin
//! asks. What it must do alone is to remember a DEL when nobody answers.

mod agent;
mod pod;

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::Timestamp;
use wire::{
    cni::{self, CONFIG_BYTES_MAX, Code, Command, Environment, Error, NetConf},
    message::{CONTRACT, Reply, Request, Verb},
};

use crate::pod::Sandbox;

/// What an ADD may take. Container runtimes give a sandbox 2 to 4 minutes and retry; answering
/// "try again" after 90 s leaves them time to do so, and tells people what was waited for.
const ADD_PATIENCE: Duration = Duration::from_secs(90);

/// What the other verbs may take: no cloud call is behind them.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let started = now();
    let mut input = Vec::new();
    let limit = u64::try_from(CONFIG_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let read = io::stdin().take(limit).read_to_end(&mut input);
    // The version to answer in, even if the rest of the configuration makes no sense.
    let version = version_of(&input);
    let outcome = match read {
        Err(error) => Err(Error::new(
            Code::Io,
            format!("reading the configuration: {error}"),
        )),
        Ok(_) => Environment::parse(|name| std::env::var(name).ok())
            .and_then(|environment| run(&environment, &input, &version, started)),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.document(&version), ExitCode::FAILURE),
    };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::EPOCH.after(since)
}

fn version_of(input: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(input).ok();
    let version = document
        .as_ref()
        .and_then(|document| document.get("cniVersion")?.as_str());
    version
        .filter(|version| cni::VERSIONS.contains(version))
        .unwrap_or("1.0.0")
        .to_owned()
}

fn run(
    environment: &Environment,
    input: &[u8],
    version: &str,
    started: Timestamp,
) -> Result<String, Error> {
    if environment.command == Command::Version {
        return Ok(cni::version_document(version));
    }
    let conf = NetConf::parse(input)?;
    match (environment.command, environment.key.clone()) {
        (Command::Add, Some(key)) => add(environment, &conf, key, started),
        (Command::Check, Some(key)) => {
            let sandbox = sandbox(environment)?;
            let reply = ask(Verb::Check { key }, started, PATIENCE, Some(&sandbox))?;
            settle(reply, &sandbox).map(|_| String::new())
        }
        (Command::Del, Some(key)) => {
            // A namespace that is gone, or was never named, has nothing to give back.
            let sandbox = sandbox(environment).ok();
            let descriptors = sandbox.as_ref().map(Sandbox::descriptors);
            let descriptors = descriptors.unwrap_or_default();
            agent::del(key, started, PATIENCE, &descriptors).map(|()| String::new())
        }
        (Command::Gc, _) => {
            let valid = conf.valid;
            ask(Verb::Gc { valid }, started, PATIENCE, None).and_then(plain)
        }
        _ => ask(Verb::Status, started, PATIENCE, None)
            .map_err(|error| Error {
                code: Code::NotAvailable as u32,
                ..error
            })
            .and_then(plain),
    }
}

fn add(
    environment: &Environment,
    conf: &NetConf,
    key: model::AttachmentKey,
    started: Timestamp,
) -> Result<String, Error> {
    let pod = environment.args.pod.clone().ok_or_else(|| {
        Error::new(
            Code::InvalidEnvironment,
            "CNI_ARGS names no K8S_POD_NAMESPACE and K8S_POD_NAME; this plugin serves Kubernetes pods",
        )
    })?;
    let sandbox = sandbox(environment)?;
    let verb = Verb::Add {
        key,
        pod,
        uid: environment.args.uid.clone(),
        netns: sandbox.path().to_owned(),
        mtu: conf.mtu,
        host_stack: conf.host_stack.clone(),
        runtime: conf.runtime.clone(),
    };
    let reply = ask(verb, started, ADD_PATIENCE, Some(&sandbox))?;
    let result = settle(reply, &sandbox)?;
    Ok(result.document(&conf.version))
}

fn sandbox(environment: &Environment) -> Result<Sandbox, Error> {
    Sandbox::open(environment.netns.as_deref().unwrap_or_default())
}

fn ask(
    verb: Verb,
    started: Timestamp,
    patience: Duration,
    sandbox: Option<&Sandbox>,
) -> Result<Reply, Error> {
    let request = Request {
        contract: CONTRACT,
        started,
        patience,
        verb,
    };
    agent::ask(
        &request,
        sandbox
            .map(Sandbox::descriptors)
            .unwrap_or_default()
            .as_slice(),
    )
}

/// Writes what the attachment relies on under `/proc/sys` and returns its result.
fn settle(reply: Reply, sandbox: &Sandbox) -> Result<cni::AddResult, Error> {
    match reply {
        Reply::Attached { result, sysctls } => {
            sandbox.write(&sysctls)?;
            Ok(result)
        }
        other => plain(other).map(|_| cni::AddResult::default()),
    }
}

fn plain(reply: Reply) -> Result<String, Error> {
    match reply {
        Reply::Failed {
            code,
            message,
            details,
        } => Err(Error {
            code,
            message,
            details,
        }),
        Reply::Attached { .. } | Reply::Done | Reply::View(_) => Ok(String::new()),
    }
}
