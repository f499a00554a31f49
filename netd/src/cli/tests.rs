//! The command line's own shape.

use super::*;

fn parse(arguments: &str) -> Result<Cli, clap::Error> {
    // As with an empty variable: the tester's own says nothing here.
    super::parse(
        Some(OsStr::new("")),
        std::iter::once("netd").chain(arguments.split(' ')).map(Into::into),
    )
}

/// Every command, with its full name.
fn commands(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
    let mut all = vec![(name.to_owned(), command.clone())];
    for sub in command.get_subcommands() {
        all.extend(commands(sub, &format!("{name} {}", sub.get_name())));
    }
    all
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_has_an_example() {
    for (name, command) in commands(&Cli::command(), "netd") {
        let about = command.get_about().map(ToString::to_string);
        assert!(about.is_some_and(|about| !about.is_empty()), "{name}");
        let after = command.get_after_help().map(ToString::to_string);
        assert!(
            after.is_some_and(|after| after.starts_with("Examples:") && after.contains(&name)),
            "{name}"
        );
    }
}

#[test]
fn every_example_parses() {
    for (name, command) in commands(&Cli::command(), "netd") {
        let after = command.get_after_help().map(ToString::to_string);
        for line in after.unwrap_or_default().lines() {
            let Some(example) = line.trim().strip_prefix("netd ") else {
                continue;
            };
            let example = example.split(" |").next().unwrap().trim_end_matches(" &");
            if let Err(error) = parse(example) {
                panic!("{name}: `{example}`: {error}");
            }
        }
    }
}

#[test]
fn root_goes_before_or_after_the_command() {
    for arguments in
        ["--root /x ps", "ps --root /x", "network --root /x ls", "network ls --root /x"]
    {
        assert_eq!(parse(arguments).unwrap().root, Some("/x".into()), "{arguments}");
    }
}

#[test]
fn what_follows_two_dashes_is_the_command_s() {
    let cli = parse("run --rm -- ls --rm --root x").unwrap();
    assert_eq!(cli.root, None);
    assert!(parse("run ls").is_err());
    assert!(parse("run").is_err());
    assert!(parse("exec web ls").is_err());
}

#[test]
fn flags_of_the_agent_are_the_configuration_s_keys() {
    let Ok(Cli { command: Command::Agent(_), .. }) = parse("agent") else {
        panic!("`netd agent` needs nothing")
    };
    let command = Cli::command();
    let agent = command.find_subcommand("agent").unwrap();
    for key in [
        "bip",
        "fixed-cidr",
        "default-gateway",
        "mtu",
        "icc",
        "ip-masq",
        "ipv6",
        "default-address-pools",
        "ip",
        "uplinks",
        "xdp",
        "live-restore",
        "flow-table-size",
        "metrics-address",
        "docker-plugin",
    ] {
        assert!(agent.get_arguments().any(|argument| argument.get_long() == Some(key)), "{key}");
    }
    assert!(parse("agent --icc --ip-masq=false --xdp generic --uplinks a,b").is_ok());
    assert!(parse("agent --default-address-pool size=24,base=10.0.0.0/8").is_ok());
    for wrong in ["base=10.0.0.0/8", "base=a,size=x", "base=a,size=1,x=2", ""] {
        assert!(parse(&format!("agent --default-address-pool {wrong}")).is_err());
    }
}
