use std::process::ExitCode;

fn main() -> ExitCode {
    netd::cli::main(netd::agent::run)
}
