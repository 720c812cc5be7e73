//! `terway-sim replay` of what a real agent recorded: the real machine, told the same again.

use anyhow::Context;
use engine::{
    node::{Action, Notice},
    recording::{self, Seen},
};

/// Runs a recording; says whether every decision was as recorded and none broke an invariant.
pub(crate) fn replay(text: &str, log: bool) -> anyhow::Result<bool> {
    let (mut inputs, mut actions, mut defects) = (0, 0, 0);
    let machine = recording::replay(text, |now, seen| {
        if log {
            println!("{now} {seen:?}");
        }
        match seen {
            Seen::Took(_) => inputs += 1,
            Seen::Did(action) => {
                actions += 1;
                if let Action::Notice(Notice::Defect(text)) = action {
                    defects += 1;
                    println!("{now} FAILS: {text}");
                }
            }
        }
    });
    let machine = machine.with_context(|| format!("after {inputs} inputs, {actions} actions"))?;
    let ledger = machine.ledger();
    println!(
        "{inputs} inputs, {actions} actions, each as recorded; {} ENIs, {} addresses, {} attachments, {} open calls in the end",
        ledger.enis().count(),
        ledger.addresses().count(),
        ledger.attachments().count(),
        ledger.intents().count(),
    );
    Ok(defects == 0)
}
