//! Tells xtask the target it is built for: cargo says it to build scripts only.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=XTASK_HOST={}", env::var("TARGET").unwrap_or_default());
}
