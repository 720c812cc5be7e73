//! Which mode the node is in. A node is in one from its first pod on: what the ledger holds of another mode
//! is refused, because addresses and ENIs of that mode would be left behind.

use anyhow::bail;
use clap::ValueEnum;
use engine::ledger::Ledger;
use model::Mac;

/// Where pods' addresses come from, by the names `--daemon-mode` has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Addresses of secondary ENIs.
    #[value(name = "ENIMultiIP")]
    EniMultiIp,
    /// Addresses of the node's podCIDR, led to the node by the VPC's route table.
    #[value(name = "VPC")]
    Vpc,
}

impl Mode {
    /// # Errors
    /// When the ledger is one of the other mode, and what to do.
    pub(crate) fn suits(self, ledger: &Ledger, primary: Option<Mac>) -> anyhow::Result<()> {
        let own = |mac: Mac| primary == Some(mac);
        let coming = ledger.intents().count();
        let others = coming + ledger.enis().filter(|eni| !own(eni.mac)).count();
        let held = ledger
            .enis()
            .any(|eni| own(eni.mac) && ledger.holder_on(&eni.id).is_some());
        match self {
            Self::Vpc if others > 0 => bail!(
                "--daemon-mode is VPC, but this node has or awaits {others} ENIs of mode ENIMultiIP: a node keeps its mode; \
                 go back, or drain the node and replace its instance"
            ),
            Self::EniMultiIp if held => bail!(
                "--daemon-mode is ENIMultiIP, but pods of this node have addresses of its podCIDR (mode VPC): \
                 go back, drain the node in that mode, and then change it"
            ),
            _ => Ok(()),
        }
    }
}
