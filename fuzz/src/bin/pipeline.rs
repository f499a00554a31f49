//! libFuzzer's bytes, played on the host model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| netd_common::model::fuzz::play(data));
