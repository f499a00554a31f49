//! The programs' stacks are small enough for the kernels that netd runs on, which
//! the one below these tests may not tell: each frame of a chain of calls is
//! rounded up, in Linux 6.1 to 32 bytes (`check_max_stack_depth`,
//! kernel/bpf/verifier.c), in 6.12 to 16.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context as _, Result, ensure};
use aya_obj::{Object, generated::bpf_insn};
use netd::datapath::OBJECT;

/// `MAX_BPF_STACK`.
const MOST: u32 = 512;
const GRANULARITY: u32 = 32;

// linux/bpf_common.h, linux/bpf.h
const CLASS: u8 = 0x07;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const LD_IMM64: u8 = 0x18;
const MOV_REG: u8 = 0xbf;
const ADD_IMM: u8 = 0x07;
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNC: u8 = 4;
const FRAME_POINTER: u8 = 10;

/// A function's frame in bytes, and the functions that it calls or has called,
/// by where they begin.
#[derive(Debug, Default)]
struct Function {
    frame: u32,
    calls: BTreeSet<usize>,
}

#[test]
fn every_chain_of_calls_fits_the_stack_of_older_kernels() -> Result<()> {
    let mut object = Object::parse(OBJECT)?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections)?;
    ensure!(object.programs.len() > 10, "there are but {} programs", object.programs.len());
    let programs: BTreeMap<_, _> = object.programs.iter().collect();
    for (name, program) in programs {
        let code = object.functions.get(&program.function_key()).context("it has code")?;
        let functions = functions(&code.instructions);
        let (bytes, depth) = deepest(&functions, 0);
        eprintln!("{name:<20} {bytes:>4} bytes in {depth} frames");
        ensure!(bytes <= MOST, "`{name}` takes {bytes} bytes of stack in {depth} frames");
    }
    Ok(())
}

/// The functions that a program was linked of, by where they begin.
fn functions(code: &[bpf_insn]) -> BTreeMap<usize, Function> {
    let target = |at: usize| {
        let insn = &code[at];
        let is_call = insn.code == CALL && insn.src_reg() == PSEUDO_CALL;
        let is_callback = insn.code == LD_IMM64 && insn.src_reg() == PSEUDO_FUNC;
        let relative = usize::try_from(i64::try_from(at).ok()? + 1 + i64::from(insn.imm)).ok()?;
        (is_call || is_callback).then_some(relative)
    };
    let starts: BTreeSet<usize> = (0..code.len()).filter_map(target).chain([0]).collect();
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let function = |(start, end): (usize, usize)| {
        let calls = (start..end).filter_map(target).collect();
        (start, Function { frame: frame(&code[start..end]), calls })
    };
    starts.iter().copied().zip(ends).map(function).collect()
}

/// The lowest byte below the frame pointer that a function reads, writes or takes
/// the address of.
fn frame(code: &[bpf_insn]) -> u32 {
    let mut lowest = 0;
    // Registers that are copies of the frame pointer.
    let mut copies = BTreeSet::new();
    for insn in code {
        let (dst, src) = (insn.dst_reg(), insn.src_reg());
        let offset = match insn.code & CLASS {
            LDX if src == FRAME_POINTER => i32::from(insn.off),
            ST | STX if dst == FRAME_POINTER => i32::from(insn.off),
            _ if insn.code == ADD_IMM && copies.contains(&dst) => insn.imm,
            _ => 0,
        };
        lowest = lowest.min(offset);
        if insn.code == MOV_REG && src == FRAME_POINTER {
            copies.insert(dst);
        } else if !matches!(insn.code & CLASS, ST | STX) {
            copies.remove(&dst);
        }
    }
    lowest.unsigned_abs()
}

/// The most bytes that a chain of calls from a function takes, and its length.
fn deepest(functions: &BTreeMap<usize, Function>, start: usize) -> (u32, u32) {
    let function = &functions[&start];
    let below = function.calls.iter().map(|call| deepest(functions, *call)).max();
    let (bytes, depth) = below.unwrap_or_default();
    (bytes + function.frame.max(1).next_multiple_of(GRANULARITY), depth + 1)
}
