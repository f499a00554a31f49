//! Another build of netd: the same, with other eBPF programs in it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use crate::{TestDir, program::netd_path};

/// `EM_BPF`.
const BPF: u16 = 247;
/// `SHT_PROGBITS`, and `SHF_EXECINSTR` of its flags.
const PROGBITS: u32 = 1;
const EXECUTABLE: u64 = 4;
/// `BPF_ALU64 | BPF_MOV | BPF_K`, and the same of 32 bits, which for numbers
/// that are not negative does the same.
const MOVE64: u8 = 0xb7;
const MOVE32: u8 = 0xb4;
/// `BPF_LD | BPF_IMM | BPF_DW`: two slots long.
const LOAD64: u8 = 0x18;

/// A copy of netd whose every eBPF program has other instructions that do the
/// same. Gives how many were changed, too.
pub fn other(dir: &TestDir) -> (PathBuf, usize) {
    let mut bytes = fs::read(netd_path()).expect("read netd");
    let changed = change(&mut bytes);
    let path = dir.path().join("netd-other");
    fs::write(&path, bytes).expect("write another netd");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    (path, changed)
}

fn change(bytes: &mut [u8]) -> usize {
    let magic = b"\x7fELF\x02\x01";
    let starts: Vec<_> = (0..bytes.len().saturating_sub(64))
        .step_by(8)
        .filter(|at| bytes[*at..].starts_with(magic) && u16_at(bytes, at + 18) == BPF)
        .collect();
    starts.into_iter().map(|start| change_object(&mut bytes[start..])).sum()
}

fn change_object(object: &mut [u8]) -> usize {
    let table = usize_at(object, 40);
    let (size, count) = (u16_at(object, 58), u16_at(object, 60));
    let mut changed = 0;
    for section in 0..usize::from(count) {
        let head = table + section * usize::from(size);
        let executable = u64_at(object, head + 8) & EXECUTABLE != 0;
        if u32_at(object, head + 4) != PROGBITS || !executable {
            continue;
        }
        let (offset, length) = (usize_at(object, head + 24), usize_at(object, head + 32));
        changed += change_code(&mut object[offset..offset + length]);
    }
    changed
}

fn change_code(code: &mut [u8]) -> usize {
    let (mut at, mut changed) = (0, 0);
    while at + 8 <= code.len() {
        let positive = code[at + 7] & 0x80 == 0;
        if code[at] == MOVE64 && positive {
            code[at] = MOVE32;
            changed += 1;
        }
        at += if code[at] == LOAD64 { 16 } else { 8 };
    }
    changed
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("within the file"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the file"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the file"))
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64_at(bytes, at)).expect("an offset within the file")
}
