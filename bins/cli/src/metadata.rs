//! `metadata`: what the instance metadata service says of this node, read as the agent reads it.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use cloud::{Deadline, InstanceFacts, InterfaceFacts, Metadata};
use model::Mac;
use serde_json::{Value, json};

use crate::{
    agent::chain,
    text::{Paint, Tone},
};

/// What all of it may take: the service answers in milliseconds, and about ten readings an interface are
/// made of up to eight interfaces.
const BUDGET: Duration = Duration::from_secs(10);

/// Arguments of `metadata`.
#[derive(Debug, clap::Args)]
pub(crate) struct MetadataArgs {
    /// The service
    #[arg(long, default_value = cloud::metadata::DEFAULT_BASE)]
    metadata: String,
    /// As one document
    #[arg(long)]
    json: bool,
}

/// Carries out `metadata`.
pub(crate) fn run(arguments: &MetadataArgs) -> Result<ExitCode> {
    let service = Metadata::new(&arguments.metadata).context("--metadata")?;
    let runtime = crate::runtime()?;
    let (instance, interfaces) = runtime.block_on(read(&service))?;
    if arguments.json {
        let document = document(&instance, &interfaces);
        crate::print(&serde_json::to_string_pretty(&document)?)?;
    } else {
        crate::print(&page(&instance, &interfaces, Paint::for_stdout()))?;
    }
    let whole = interfaces.iter().all(|(_, read)| read.is_ok());
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

type Interfaces = Vec<(Mac, Result<InterfaceFacts, String>)>;

async fn read(service: &Metadata) -> Result<(InstanceFacts, Interfaces)> {
    let deadline = Deadline::within(BUDGET);
    let instance = service.instance(deadline).await.context(
        "is this an ECS instance, and does it reach the metadata service at 100.100.100.200?",
    )?;
    let mut interfaces = Vec::new();
    for mac in service.interfaces(deadline).await? {
        let read = service.interface(mac, deadline).await;
        interfaces.push((mac, read.map_err(|error| chain(&error))));
    }
    Ok((instance, interfaces))
}

fn document(instance: &InstanceFacts, interfaces: &Interfaces) -> Value {
    let interfaces = interfaces.iter().map(|(mac, read)| match read {
        Err(why) => json!({ "mac": mac, "error": why }),
        Ok(facts) => json!({
            "mac": mac, "eni": facts.eni, "primary": facts.primary_address, "gateway": facts.gateway,
            "addresses": facts.addresses, "vswitch": facts.vswitch, "cidr": facts.vswitch_cidr.to_string(),
        }),
    });
    json!({
        "instance": instance.instance, "type": instance.instance_type, "region": instance.region,
        "zone": instance.zone, "vpc": instance.vpc, "vswitch": instance.vswitch,
        "primary_mac": instance.primary_mac, "interfaces": interfaces.collect::<Vec<_>>(),
    })
}

fn page(instance: &InstanceFacts, interfaces: &Interfaces, paint: Paint) -> String {
    let head = format!(
        "{} · {} · {} · {} · {}",
        paint.tone(Tone::Head, instance.instance.as_str()),
        instance.instance_type,
        instance.zone,
        instance.vpc,
        instance.vswitch
    );
    let mut lines = vec![head];
    for (mac, read) in interfaces {
        let note = if *mac == instance.primary_mac {
            " (primary)"
        } else {
            ""
        };
        match read {
            Err(why) => lines.push(format!("  {mac}{note} {}", paint.tone(Tone::Bad, why))),
            Ok(facts) => {
                lines.push(format!(
                    "  {mac}{note} {} {} {} via {}",
                    facts.eni, facts.vswitch, facts.vswitch_cidr, facts.gateway
                ));
                let addresses = facts.addresses.iter().map(|address| {
                    let own = if *address == facts.primary_address {
                        " (its own)"
                    } else {
                        ""
                    };
                    format!("    {address}{own}")
                });
                lines.extend(addresses);
            }
        }
    }
    lines.join("\n")
}
