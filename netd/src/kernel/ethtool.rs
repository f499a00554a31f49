//! What a link's driver is and does (`SIOCETHTOOL`, include/uapi/linux/ethtool.h).

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
/// The set of the features' names.
const FEATURES: u32 = 4;
/// Bytes of a name, and in words.
const NAME: usize = 32;
const NAME_WORDS: usize = NAME / size_of::<u32>();
/// Words of `struct ethtool_drvinfo`.
const DRVINFO_WORDS: usize = 49;
/// Words of `struct ethtool_get_features_block`, and which of them says what
/// is on.
const BLOCK_WORDS: usize = 4;
const ACTIVE: usize = 2;

/// The name of a link's driver.
pub fn driver(link: &str) -> io::Result<String> {
    let mut request = vec![0; DRVINFO_WORDS];
    request[0] = GDRVINFO;
    ask(link, &mut request)?;
    Ok(name(&request[1..=NAME_WORDS]))
}

/// The offloads and other features that are on, by the names that `ethtool -k`
/// has for them inside (`tx-tcp-segmentation`, `rx-lro`, …).
pub fn active_features(link: &str) -> io::Result<BTreeSet<String>> {
    // Command, reserved, the mask of the sets asked for, then their sizes.
    let mut count = [GSSET_INFO, 0, 1 << FEATURES, 0, 0];
    ask(link, &mut count)?;
    let count = count[4] as usize;
    // Command, set, number of names.
    let mut names = vec![0; 3 + count * NAME_WORDS];
    names[..2].copy_from_slice(&[GSTRINGS, FEATURES]);
    ask(link, &mut names)?;
    let blocks = count.div_ceil(32);
    let mut features = vec![0; 2 + blocks * BLOCK_WORDS];
    features[0] = GFEATURES;
    features[1] = u32::try_from(blocks).map_err(io::Error::other)?;
    ask(link, &mut features)?;
    let is_on = |n: usize| {
        let block = features.get(2 + n / 32 * BLOCK_WORDS + ACTIVE);
        block.is_some_and(|bits| bits >> (n % 32) & 1 != 0)
    };
    let names = names[3..].chunks_exact(NAME_WORDS).enumerate();
    Ok(names.filter(|(n, _)| is_on(*n)).map(|(_, words)| name(words)).collect())
}

fn name(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// `request` has room for all that its command is answered with.
fn ask(link: &str, request: &mut [u32]) -> io::Result<()> {
    let socket: OwnedFd =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: integers and pointers, for which zero is valid.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = link.bytes().chain([0]);
    if link.len() >= interface.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, byte) in interface.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    interface.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: the descriptor is open; the kernel reads and writes `request`,
    // which has the room (see above), and `interface`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut interface) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{active_features, driver};

    #[test]
    fn the_loopback_has_features_and_an_unknown_link_has_none() {
        let features = active_features("lo").unwrap();
        assert!(features.contains("loopback"), "{features:?}");
        assert!(active_features("no-such-link").is_err());
        assert!(driver("much-too-long-a-name").is_err());
    }
}
