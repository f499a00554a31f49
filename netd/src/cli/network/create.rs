//! `netd network create`.

use std::process::ExitCode;

use crate::{
    api::types::NetworkCreate,
    cli::{Context, error::Outcome, output, parse},
};

/// Create a network, and print its id
///
/// Without --subnet, the first free one of the default address pools is taken;
/// with --ipv6, one more of this host's unique local addresses.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network create blue
  netd network create --subnet 172.18.0.0/16 --ip-range 172.18.5.0/24 --gateway 172.18.0.1 blue
  netd network create --ipv6 --subnet 172.18.0.0/16 --subnet 2001:db8:1::/64 blue
  netd network create --internal -o com.docker.network.bridge.name=br-blue blue")]
pub(in crate::cli) struct Args {
    /// The network's name
    name: String,

    /// Subnet; one a family
    #[arg(long = "subnet", value_name = "CIDR", value_parser = parse::subnet)]
    subnets: Vec<String>,

    /// Gateway of a subnet: the bridge's address [default: the subnet's first]
    #[arg(long = "gateway", value_name = "ADDRESS", value_parser = parse::address)]
    gateways: Vec<String>,

    /// Part of a subnet that automatic addresses come from [default: all of it]
    #[arg(long = "ip-range", value_name = "CIDR", value_parser = parse::subnet)]
    ip_ranges: Vec<String>,

    /// An address of a subnet that is not netd's to give
    #[arg(long = "aux-address", value_name = "NAME=ADDRESS", value_parser = parse::key_value)]
    aux_addresses: Vec<(String, String)>,

    /// No way out and no way in
    #[arg(long)]
    internal: bool,

    /// IPv6 beside IPv4: the --subnet of it, or a free one
    #[arg(long)]
    ipv6: bool,

    /// An option of Docker's bridge driver (com.docker.network.…)
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = parse::key_value)]
    options: Vec<(String, String)>,

    /// A note, shown by `inspect`
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::key_value)]
    labels: Vec<(String, String)>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = NetworkCreate {
            name: self.name,
            subnets: self.subnets,
            gateways: self.gateways,
            ip_ranges: self.ip_ranges,
            aux_addresses: self.aux_addresses.into_iter().collect(),
            internal: self.internal,
            ipv6: self.ipv6,
            options: self.options.into_iter().collect(),
            labels: self.labels.into_iter().collect(),
        };
        output::line(&context.client.network_create(&body).await?.id)?;
        Ok(ExitCode::SUCCESS)
    }
}
