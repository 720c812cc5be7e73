//! One node as people read it: agent, pool, ENIs, addresses and the pods that have them.

use super::document::{Eni, Status};
use crate::text::{Paint, Tone, age, count, foreign};

/// The node as a tree; `now` is in seconds since the Unix epoch.
pub(crate) fn tree(status: &Status, now: u64, paint: Paint) -> String {
    let mut lines = vec![agent(status, now, paint)];
    lines.extend(instance(status));
    lines.push(pool(status));
    for line in status.wrong(now) {
        let mark = paint.tone(Tone::Bad, "!");
        lines.push(format!("{mark} {}", foreign(&line)));
    }
    for key in &status.agent.ignored_keys {
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        let text = format!("eni_conf: {} has no effect in this release", foreign(&key));
        lines.push(paint.tone(Tone::Faint, &text));
    }
    for eni in &status.enis {
        lines.extend(branch(eni, paint));
    }
    if status.enis.is_empty() {
        lines.push("no ENI for pods yet".into());
    }
    lines.join("\n")
}

fn agent(status: &Status, now: u64, paint: Paint) -> String {
    let agent = &status.agent;
    let name = foreign(agent.node.as_deref().unwrap_or("this node"));
    let version = foreign(agent.version.as_deref().unwrap_or("of an older release"));
    let ready = match agent.ready {
        Some(true) => paint.tone(Tone::Good, "ready"),
        Some(false) => paint.tone(Tone::Bad, "not ready"),
        None => paint.tone(Tone::Faint, "answers"),
    };
    let up = agent.started.map_or_else(String::new, |started| {
        format!(", up {}", age(now.saturating_sub(started)))
    });
    format!(
        "{} · agent {version} {ready}{up}",
        paint.tone(Tone::Head, &name)
    )
}

fn instance(status: &Status) -> Option<String> {
    let instance = &status.agent.instance;
    let parts = [&instance.id, &instance.kind, &instance.zone, &instance.vpc];
    let mut parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .map(|text| foreign(text))
        .collect();
    if instance.zone.is_none() {
        parts.extend(instance.region.as_deref().map(foreign));
    }
    for (name, ids) in [
        ("vSwitches", &status.agent.vswitches),
        ("security groups", &status.agent.security_groups),
    ] {
        if !ids.is_empty() {
            parts.push(format!("{name} {}", foreign(&ids.join(" "))));
        }
    }
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn pool(status: &Status) -> String {
    let mut text = format!(
        "pool {} idle, {} assigned, {} resting, {} waiting",
        status.idle, status.assigned, status.resting, status.waiting
    );
    if let Some(pool) = &status.agent.pool {
        text.push_str(&format!(
            " · keeps {} to {} idle · at most {} of {} · rest {}",
            pool.min,
            pool.max,
            count(pool.enis_max as usize, "ENI"),
            format_args!("{} addresses", pool.addresses_per_eni),
            age(pool.cooldown_seconds)
        ));
    }
    // Veth pairs are what pods of every release have.
    if let Some(links) = status.agent.pod_links.as_deref().filter(|it| *it != "veth") {
        text.push_str(&format!(" · new pods on {}", foreign(links)));
    }
    if status.open_calls > 0 {
        let calls = count(status.open_calls as usize, "cloud call");
        text.push_str(&format!(" · {calls} open"));
    }
    text
}

fn branch(eni: &Eni, paint: Paint) -> Vec<String> {
    let stage = eni
        .stage
        .as_str()
        .map_or_else(|| eni.stage.to_string(), str::to_owned);
    let tone = if eni.usable {
        Tone::Good
    } else {
        Tone::Pending
    };
    let link = foreign(eni.link.as_deref().unwrap_or("no link"));
    let (id, mac, vswitch) = (foreign(&eni.id), foreign(&eni.mac), foreign(&eni.vswitch));
    let trunk = if eni.trunk { " trunk" } else { "" };
    let head = format!(
        "  {} {} {} {mac} {vswitch}{trunk}",
        paint.tone(Tone::Head, &link),
        id,
        paint.tone(tone, &foreign(&stage)),
    );
    let all = eni.addresses.iter().chain(&eni.members);
    let width = all.clone().map(|(address, _)| address.len()).max();
    let width = width.unwrap_or(0);
    let leaves = all.map(|(address, holder)| {
        let address = foreign(address);
        let pad = " ".repeat(width.saturating_sub(address.len()));
        let tone = match holder.as_str() {
            "idle" | "resting" | "new" | "releasing" => Tone::Faint,
            "uncertain" => Tone::Bad,
            _ => Tone::Good,
        };
        format!("    {address}{pad}  {}", paint.tone(tone, &foreign(holder)))
    });
    std::iter::once(head).chain(leaves).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_shown_whole() {
        let document = json!({
            "idle": 1, "assigned": 1, "resting": 0, "waiting": 0, "open_calls": 1,
            "enis": [{ "id": "eni-1", "mac": "00:16:3e:00:00:01", "vswitch": "vsw-1",
                "stage": "Ready", "usable": true, "link": "eth1",
                "addresses": { "10.1.0.7": "default/web", "10.1.0.10": "idle" },
                "trunk": true, "members": { "10.2.0.9": "default/db (VLAN 7)" } }],
            "agent": { "version": "0.1.0", "node": "node-1", "started": 1000, "ready": true,
                "instance": { "id": "i-1", "type": "ecs.g7.xlarge", "zone": "cn-hangzhou-i", "vpc": "vpc-1" },
                "pool": { "min": 1, "max": 5, "enis_max": 3, "addresses_per_eni": 10, "cooldown_seconds": 60 },
                "vswitches": ["vsw-1"], "ignored_keys": ["enable_erdma"], "pod_links": "ipvlan" } });
        let status = Status::read(&document).unwrap();
        let shown = tree(&status, 1042, Paint::none());
        assert_eq!(
            shown,
            "node-1 · agent 0.1.0 ready, up 42s\n\
             i-1 · ecs.g7.xlarge · cn-hangzhou-i · vpc-1 · vSwitches vsw-1\n\
             pool 1 idle, 1 assigned, 0 resting, 0 waiting · keeps 1 to 5 idle · at most 3 ENIs of 10 addresses · rest 60s · new pods on ipvlan · 1 cloud call open\n\
             eni_conf: enable_erdma has no effect in this release\n\
             \x20 eth1 eni-1 Ready 00:16:3e:00:00:01 vsw-1 trunk\n\
             \x20   10.1.0.10  idle\n\
             \x20   10.1.0.7   default/web\n\
             \x20   10.2.0.9   default/db (VLAN 7)"
        );
    }
}
