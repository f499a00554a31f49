//! Writes netd's man pages and shell completions into a directory, for
//! packages: `cargo run -p netd --example pages -- DIR`. They are made from the
//! command line's own definition, and netd itself needs nothing of it.

use std::{env, fs, io, path::Path};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, italic, roman};
use netd::cli::Cli;

fn main() -> io::Result<()> {
    let Some(dir) = env::args_os().nth(1) else {
        return Err(io::Error::other("usage: pages DIR"));
    };
    let dir = Path::new(&dir);
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    // One page a command: netd(1), netd-network-create(1), …
    clap_mangen::generate_to(Cli::command(), &man)?;
    fs::write(man.join("netd.json.5"), configuration(&Cli::command()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "netd", &completions)?;
    }
    Ok(())
}

/// netd.json(5): the keys are the agent's flags, under a heading of their own.
fn configuration(netd: &Command) -> String {
    let keys = netd
        .find_subcommand("agent")
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter(|arg| arg.get_help_heading().is_some_and(|it| it.starts_with("Configuration")));
    let mut page = Roff::new();
    page.control("TH", ["netd.json", "5"])
        .control("SH", ["NAME"])
        .text([roman("netd.json \u{2013} configuration of netd's agent")])
        .control("SH", ["DESCRIPTION"])
        .text([
            roman("A JSON object in "),
            italic("/etc/netd/netd.json"),
            roman(", or in "),
            italic("DIR/netd.json"),
            roman(" of an agent with "),
            bold("--root"),
            roman(" DIR. All keys are optional; an unknown one is an error. Each is a flag of "),
            bold("netd agent"),
            roman(" too, which overrides it. "),
            bold("systemctl restart netd"),
            roman(" makes a change take effect; containers do not notice."),
        ])
        .control("SH", ["KEYS"]);
    for key in keys {
        page.control("TP", [])
            .text([bold(key.get_long().unwrap_or_default())])
            .text([roman(describe(key))]);
    }
    page.control("SH", ["EXAMPLE"])
        .control("EX", [])
        .text([roman(concat!(
            "{\n",
            "  \"bip\": \"10.5.0.1/24\",\n",
            "  \"default-address-pools\": [{\"base\": \"10.200.0.0/16\", \"size\": 24}]\n",
            "}"
        ))])
        .control("EE", [])
        .control("SH", ["SEE ALSO"])
        .text([bold("netd-agent"), roman("(1)")]);
    page.to_roff()
}

fn describe(key: &Arg) -> String {
    let help = key.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> =
        key.get_value_names().unwrap_or_default().iter().map(clap::builder::Str::as_str).collect();
    format!("{help} ({}).", values.join(", "))
}
