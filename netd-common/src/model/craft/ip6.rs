//! IPv6's chain of headers (RFC 8200 §4).

use std::{vec, vec::Vec};

use super::{Datagram, std};

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const DESTINATION: u8 = 60;
const FRAGMENT: u8 = 44;
const HEADER_LEN: usize = 40;

/// An extension header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub kind: u8,
    /// What follows its first two bytes: 6, 14, … of them.
    pub body: Vec<u8>,
}

impl Extension {
    /// `more` times eight bytes beyond the first eight. All options are padding;
    /// a routing header is of a type that nobody has, and done with.
    pub fn new(kind: u8, more: usize) -> Self {
        let body = if kind == ROUTING {
            vec![0; 6 + 8 * more]
        } else {
            let mut body = vec![1, u8::try_from(4 + 8 * more).expect("padding")];
            body.resize(6 + 8 * more, 0);
            body
        };
        Self { kind, body }
    }

    pub(super) fn len(&self) -> usize {
        2 + self.body.len()
    }
}

/// Those in front of a fragment header, and those behind it.
pub(super) fn split(extensions: &[Extension]) -> (Vec<Extension>, Vec<Extension>) {
    let of_each_hop = |extension: &Extension| matches!(extension.kind, HOP_BY_HOP | ROUTING);
    let at = extensions.iter().rposition(of_each_hop).map_or(0, |last| last + 1);
    let (stay, go) = extensions.split_at(at);
    (stay.to_vec(), go.to_vec())
}

/// The kind of the first header after IPv6's own, and all that stand before
/// layer 4.
pub(super) fn chain(
    extensions: &[Extension],
    fragment: Option<[u8; 7]>,
    proto: u8,
) -> (u8, Vec<u8>) {
    let (stay, go) = split(extensions);
    let plain = |extension: &Extension| {
        let units = u8::try_from(extension.len() / 8 - 1).expect("an extension's length");
        let mut bytes = vec![units];
        bytes.extend(&extension.body);
        (extension.kind, bytes)
    };
    let mut headers: Vec<(u8, Vec<u8>)> = stay.iter().map(plain).collect();
    headers.extend(fragment.map(|bytes| (FRAGMENT, bytes.to_vec())));
    headers.extend(go.iter().map(plain));
    let (mut next, mut all) = (proto, vec![]);
    for (kind, rest) in headers.into_iter().rev() {
        let mut bytes = vec![next];
        bytes.extend(rest);
        bytes.extend(all);
        (next, all) = (kind, bytes);
    }
    (next, all)
}

/// What stands before layer 4.
pub(super) struct Header {
    pub(super) src: [u8; 16],
    pub(super) dst: [u8; 16],
    pub(super) extensions: Vec<Extension>,
    pub(super) fragment: u16,
    pub(super) id: u32,
    /// Of layer 4; in a fragment of what follows the fragment header.
    pub(super) proto: u8,
    /// Offset in the packet.
    pub(super) l4: usize,
}

impl Header {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let address = |at: usize| packet.get(at..at + 16)?.try_into().ok();
        let mut header = Self {
            src: address(8)?,
            dst: address(24)?,
            extensions: vec![],
            fragment: 0,
            id: 0,
            proto: packet[6],
            l4: HEADER_LEN,
        };
        loop {
            let kind = header.proto;
            if !matches!(kind, HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT) {
                return Some(header);
            }
            let [next, units, a, b, c, d, e, f] = *packet.get(header.l4..)?.first_chunk::<8>()?;
            header.proto = next;
            if kind == FRAGMENT {
                header.l4 += 8;
                header.id = u32::from_be_bytes([c, d, e, f]);
                let field = u16::from_be_bytes([a, b]);
                header.fragment = field >> 3 | (field & 1) << 13;
                if header.fragment != 0 {
                    return Some(header);
                }
                header.fragment = Datagram::ATOMIC;
                continue;
            }
            let len = 8 * (usize::from(units) + 1);
            let body = packet.get(header.l4 + 2..header.l4 + len)?.to_vec();
            header.extensions.push(Extension { kind, body });
            header.l4 += len;
        }
    }
}
