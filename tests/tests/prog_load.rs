//! The kernel takes the programs, and lets go of them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use netd::datapath::{Datapath, Options, Others};
use netd_common::{
    abi::names::{SOCKET_PROGRAMS, XDP_PROGRAMS},
    verdict::Hook,
};

/// What the verifier looks at before it gives a program up.
const VERIFIER_LIMIT: u32 = 1_000_000;

#[test]
fn the_verifier_accepts_every_program_and_destroy_leaves_nothing() -> Result<()> {
    netd_tests::require_root();
    let pins = PathBuf::from(format!("/sys/fs/bpf/netd-load-{}", std::process::id()));
    let options = Options { flow_table_size: 1024, attach: None, others: Others::Refuse };
    let mut datapath = Datapath::load(&pins, &options)
        .inspect_err(|_| drop(std::fs::remove_dir_all(&pins)))
        .context("failed to load the datapath")?;
    let slow = Hook::TC.iter().filter_map(|hook| hook.slow_name());
    for name in Hook::TC.iter().map(|hook| hook.name()).chain(slow) {
        let info = datapath.program(name)?.info()?;
        let verified = info.verified_instruction_count().context("the kernel is too old")?;
        eprintln!("{name:<20} {verified:>7} instructions verified");
        ensure!(verified < VERIFIER_LIMIT / 4, "`{name}` is near the verifier's limit");
    }
    for name in SOCKET_PROGRAMS {
        let verified = datapath.socket_program(name)?.info()?.verified_instruction_count();
        let verified = verified.context("the kernel is too old")?;
        eprintln!("{name:<20} {verified:>7} instructions verified");
    }
    for name in XDP_PROGRAMS {
        let verified = datapath.xdp_program(name)?.info()?.verified_instruction_count();
        let verified = verified.context("the kernel is too old")?;
        eprintln!("{name:<20} {verified:>7} instructions verified");
    }
    datapath.destroy()?;
    ensure!(!pins.exists(), "{} is still there", pins.display());
    Ok(())
}
