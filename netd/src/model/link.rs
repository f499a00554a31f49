//! Names and hardware addresses of links.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A link's name as the kernel takes it: 1 to 15 bytes, no `/`, no white
/// space, no `:`, not `.` or `..` (`dev_valid_name`, net/core/dev.c), and
/// printable ASCII only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// An Ethernet address, printed as `02:42:ac:11:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LinkError {
    #[error(
        "invalid interface name `{0}`: 1 to 15 printable characters without `/`, `:` or space are expected"
    )]
    Name(String),
    #[error("invalid MAC address `{0}`: six hex bytes separated by `:` are expected")]
    Mac(String),
}

impl IfName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `prefix` and the first digits of `id`; 15 bytes at most.
    pub(crate) fn from_id(prefix: &str, id: &super::Id, digits: usize) -> Self {
        debug_assert!(prefix.len() + digits <= 15);
        Self(format!("{prefix}{}", &id.as_str()[..digits]))
    }

    /// With `-N` behind it; 11 bytes at most without.
    pub(crate) fn numbered(self, number: u8) -> Self {
        debug_assert!(self.0.len() <= 11);
        Self(format!("{self}-{number}"))
    }
}

impl Mac {
    /// The link-local address that the kernel makes of it (RFC 4291, appendix
    /// A) where `addr_gen_mode` is 0.
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let word = |high, low| u16::from_be_bytes([high, low]);
        let id = [word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f)];
        Ipv6Addr::new(0xfe80, 0, 0, 0, id[0], id[1], id[2], id[3])
    }
}

impl TryFrom<String> for IfName {
    type Error = LinkError;

    fn try_from(name: String) -> Result<Self, LinkError> {
        let valid = (1..=15).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
        if valid { Ok(Self(name)) } else { Err(LinkError::Name(name)) }
    }
}

impl FromStr for IfName {
    type Err = LinkError;

    fn from_str(name: &str) -> Result<Self, LinkError> {
        Self::try_from(name.to_owned())
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Mac {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let invalid = || LinkError::Mac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = LinkError;

    fn try_from(text: String) -> Result<Self, LinkError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}
