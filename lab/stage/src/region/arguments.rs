//! How large the nodes' pools are told to be: keys of eni_conf, from the command line.

/// What `eni_conf` of the cluster says about the nodes' pools.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PoolArgs {
    /// Key min_pool_size of eni_conf
    #[arg(long, default_value_t = 2)]
    pub(crate) min_pool_size: u32,
    /// Key max_pool_size of eni_conf
    #[arg(long, default_value_t = 5)]
    pub(crate) max_pool_size: u32,
    /// Key ip_cooldown of eni_conf
    #[arg(long, default_value = "60s")]
    pub(crate) ip_cooldown: String,
    /// Key enable_ip_prefix of eni_conf, with so many /28 blocks reserved in each vSwitch of pods
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(crate) prefixes: Option<u8>,
    /// Key enable_eni_trunking of eni_conf, with the control plane of trunk pods on the first nodes
    #[arg(long)]
    pub(crate) trunk: bool,
    /// Mode VPC: every node has a podCIDR, and the control plane makes the VPC's route entries
    #[arg(long, conflicts_with_all = ["trunk", "prefixes", "kubernetes"])]
    pub(crate) vpc: bool,
}

impl PoolArgs {
    /// Whether the cluster has a control plane of ours.
    pub(crate) fn controlled(&self) -> bool {
        self.trunk || self.vpc
    }

    /// The same on the command line of another process.
    pub(crate) fn words(&self) -> Vec<String> {
        let Self {
            min_pool_size,
            max_pool_size,
            ip_cooldown,
            prefixes,
            trunk,
            vpc,
        } = self;
        let mut words = vec![
            format!("--min-pool-size={min_pool_size}"),
            format!("--max-pool-size={max_pool_size}"),
            format!("--ip-cooldown={ip_cooldown}"),
        ];
        words.extend(trunk.then(|| "--trunk".to_owned()));
        words.extend(vpc.then(|| "--vpc".to_owned()));
        words.extend(prefixes.map(|prefixes| format!("--prefixes={prefixes}")));
        words
    }
}
