//! XDP on uplinks: where the program may run, and running it there.
//!
//! Like the TC programs, each attachment is a pinned `bpf_link` that a later
//! agent takes over. What another program holds is left to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::AsFd as _,
};

use anyhow::Context as _;
use aya::programs::{ProgramError, Xdp, XdpMode, links::FdLink};
use netd_common::abi::names::{UPLINK_XDP, UPLINK_XDP_SKB};
use nix::net::if_::if_nametoindex;

use super::{Error, attach::Links, link::Held};
use crate::{kernel::ethtool, model::config};

/// Whether the program runs on an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdpState {
    /// In the driver.
    Native,
    /// In the kernel's generic code, which has made a packet already.
    Generic,
    Off(WhyOff),
}

/// Why it doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyOff {
    /// `xdp: off`.
    Configured,
    /// `auto`, and the link would lose offloads by it, or its peer would.
    Costs(String),
    /// Another program is attached.
    Taken,
    /// Neither the driver nor the kernel can.
    Unsupported(String),
}

/// What is known of a link before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Traits {
    /// `None`: it doesn't say.
    driver: Option<String>,
    /// The features that are on.
    features: BTreeSet<String>,
}

/// Drivers that have XDP but that pay for it: with segmentation, of their own or
/// of the other end.
const COSTLY: [&str; 2] = ["veth", "tun"];
/// Hardware that joins segments has to stop it for XDP (`virtio_net`,
/// `bnxt_en`, `ixgbe`, …).
const JOINING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// How to attach to a link.
fn choose(wanted: config::Xdp, link: &Traits) -> Result<XdpState, WhyOff> {
    match wanted {
        config::Xdp::Off => Err(WhyOff::Configured),
        config::Xdp::Native => Ok(XdpState::Native),
        config::Xdp::Generic => Ok(XdpState::Generic),
        config::Xdp::Auto => {
            if let Some(driver) = link.driver.as_deref().filter(|it| COSTLY.contains(it)) {
                return Err(WhyOff::Costs(format!(
                    "{driver} links would lose segmentation offload"
                )));
            }
            match JOINING.iter().find(|feature| link.features.contains(**feature)) {
                Some(feature) => Err(WhyOff::Costs(format!("it would lose {feature}"))),
                None => Ok(XdpState::Native),
            }
        }
    }
}

/// The uplinks' states, by index.
#[derive(Debug, Default)]
pub(super) struct Early(BTreeMap<u32, XdpState>);

impl Early {
    /// A link's state is to be found out again.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.0.remove(&ifindex);
    }
}

impl Links {
    /// Attaches as configured, or takes over what an earlier agent attached.
    pub(super) fn attach_xdp(
        &mut self,
        link: &str,
        wanted: config::Xdp,
    ) -> Result<XdpState, Error> {
        let ifindex = if_nametoindex(link).map_err(|_| Error::NoLink(link.to_owned()))?;
        // One that another program had may be free by now; the rest is settled.
        if let Some(state) = self.early.0.get(&ifindex)
            && *state != XdpState::Off(WhyOff::Taken)
        {
            return Ok(state.clone());
        }
        let state = self.try_xdp(link, ifindex, wanted)?;
        self.early.0.insert(ifindex, state.clone());
        Ok(state)
    }

    /// Takes the program off a link.
    pub(super) fn detach_xdp(&mut self, ifindex: u32) -> Result<(), Error> {
        self.early.0.remove(&ifindex);
        for mode in [XdpState::Native, XdpState::Generic] {
            self.held.let_go(pin_name(ifindex, &mode))?;
        }
        Ok(())
    }

    /// Forgets the links that are gone: another may get their index.
    pub(super) fn forget_xdp(&mut self, is_gone: impl Fn(u32) -> bool) {
        self.early.0.retain(|ifindex, _| !is_gone(*ifindex));
    }

    fn try_xdp(
        &mut self,
        link: &str,
        ifindex: u32,
        wanted: config::Xdp,
    ) -> Result<XdpState, Error> {
        let traits = Traits {
            driver: ethtool::driver(link).ok(),
            features: ethtool::active_features(link).unwrap_or_default(),
        };
        let chosen = choose(wanted, &traits);
        for other in [XdpState::Native, XdpState::Generic] {
            if chosen.as_ref() != Ok(&other) {
                self.held.let_go(pin_name(ifindex, &other))?;
            }
        }
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(why) => return Ok(XdpState::Off(why)),
        };
        let pin = pin_name(ifindex, &chosen);
        let (name, mode) = match chosen {
            XdpState::Generic => (UPLINK_XDP_SKB, XdpMode::Skb),
            _ => (UPLINK_XDP, XdpMode::Driver),
        };
        let (program, held) = self.xdp_program_and_links(name)?;
        // It did not load: the kernel is too old for it.
        if program.fd().is_err() {
            return Ok(XdpState::Off(WhyOff::Unsupported("Linux 5.18 is needed".to_owned())));
        }
        if let Err(error) = attach(program, held, ifindex, mode, &pin) {
            return Ok(XdpState::Off(refused(&error)));
        }
        if wanted == config::Xdp::Auto {
            let now = ethtool::active_features(link).unwrap_or_default();
            let lost: Vec<_> = traits.features.difference(&now).map(String::as_str).collect();
            if !lost.is_empty() {
                self.held.let_go(pin)?;
                let why = format!("it lost {}", lost.join(", "));
                return Ok(XdpState::Off(WhyOff::Costs(why)));
            }
        }
        Ok(chosen)
    }
}

fn attach(
    program: &mut Xdp,
    held: &mut Held,
    ifindex: u32,
    mode: XdpMode,
    pin: &str,
) -> anyhow::Result<()> {
    if held.take_over(pin, program.fd()?.as_fd())? {
        return Ok(());
    }
    let id = program.attach_to_if_index(ifindex, mode)?;
    let attached: FdLink = program.take_link(id)?.try_into()?;
    attached.pin(held.pins().join(pin)).context("failed to pin the link")?;
    held.hold(pin).context("failed to open the link's pin")
}

/// Of an attempt that failed.
fn refused(error: &anyhow::Error) -> WhyOff {
    let number = match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::SyscallError(error)) => error.io_error.raw_os_error(),
        _ => None,
    };
    match number {
        // `EEXIST`: in the other mode, native or generic.
        Some(libc::EBUSY | libc::EEXIST) => WhyOff::Taken,
        Some(number) => WhyOff::Unsupported(io::Error::from_raw_os_error(number).to_string()),
        None => WhyOff::Unsupported(format!("{error:#}")),
    }
}

fn pin_name(ifindex: u32, mode: &XdpState) -> String {
    format!("{ifindex}-{UPLINK_XDP}-{mode}")
}

impl XdpState {
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off(_))
    }

    /// Why it is off, for people.
    pub fn why_off(&self) -> Option<String> {
        match self {
            Self::Off(why) => Some(why.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for XdpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off(_) => "off",
        })
    }
}

impl fmt::Display for WhyOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("the configuration says so"),
            Self::Costs(what) => f.write_str(what),
            Self::Taken => f.write_str("another XDP program is attached"),
            Self::Unsupported(error) => write!(f, "it can't be attached: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(driver: &str, features: &[&str]) -> Traits {
        Traits {
            driver: Some(driver.to_owned()),
            features: features.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn auto_is_native_where_it_costs_nothing() {
        let segmentation = ["tx-tcp-segmentation", "tx-generic-segmentation", "rx-gro"];
        for driver in ["mlx5_core", "ice", "ena", "some_driver_to_come"] {
            let chosen = choose(config::Xdp::Auto, &link(driver, &segmentation));
            assert_eq!(chosen, Ok(XdpState::Native), "{driver}");
        }
        assert_eq!(choose(config::Xdp::Auto, &Traits::default()), Ok(XdpState::Native));
    }

    #[test]
    fn auto_is_off_where_segmentation_or_joining_would_go() {
        for link in [
            link("veth", &[]),
            link("tun", &[]),
            link("virtio_net", &["rx-gro-hw"]),
            link("ixgbe", &["rx-lro"]),
        ] {
            let chosen = choose(config::Xdp::Auto, &link);
            assert!(matches!(chosen, Err(WhyOff::Costs(_))), "{link:?}: {chosen:?}");
        }
    }

    #[test]
    fn who_asks_for_a_mode_gets_it() {
        let veth = link("veth", &["rx-lro"]);
        assert_eq!(choose(config::Xdp::Native, &veth), Ok(XdpState::Native));
        assert_eq!(choose(config::Xdp::Generic, &veth), Ok(XdpState::Generic));
        assert_eq!(choose(config::Xdp::Off, &link("ice", &[])), Err(WhyOff::Configured));
    }
}
