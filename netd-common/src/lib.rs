//! netd's datapath: its kernel ABI and its whole logic, in `no_std`.
//!
//! The same code runs in the kernel (through `netd-ebpf`), in the host model
//! of the tests, and in the agent where it reads the maps. It knows nobody:
//! no aya program type, no allocator, no operating system.
#![no_std]
#![deny(unsafe_code)]
// A call costs a BPF program stack and registers: what is hot is inlined, what
// is not is kept out of line, and both are said where the function stands.
#![allow(clippy::inline_always)]

pub mod abi;
pub mod conntrack;
pub mod csum;
pub mod event;
pub mod hop;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod nat;
pub mod packet;
pub mod pipeline;
pub mod tables;
pub mod tuple;
pub mod verdict;
