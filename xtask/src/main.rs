//! netd's build and test commands: `cargo xtask COMMAND`.

mod toolchain;
fn main() {
    let _ = toolchain::find(std::path::Path::new("."));
}
