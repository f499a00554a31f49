//! libFuzzer's bytes as input of netd's target of this name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netd::fuzz::play("subnets", data));
