//! What each command says of itself. No agent, no root.

use netd_tests::netd;

const COMMANDS: &[&str] = &[
    "",
    "agent",
    "network",
    "network create",
    "network ls",
    "network inspect",
    "network rm",
    "network prune",
    "network connect",
    "network disconnect",
    "run",
    "ps",
    "inspect",
    "stop",
    "rm",
    "exec",
    "logs",
    "port",
    "port ls",
    "port add",
    "port rm",
    "ipam",
    "flows",
    "monitor",
    "stats",
    "doctor",
];

fn help(command: &str) -> String {
    netd(command.split_whitespace().chain(["--help"])).output().ok()
}

#[test]
fn each_command_explains_itself() {
    for command in COMMANDS {
        let name = format!("help {command}").trim_end().replace(' ', "_");
        insta::assert_snapshot!(name, help(command), &format!("netd {command} --help"));
    }
}

#[test]
fn the_first_help_names_every_command() {
    let help = help("");
    for command in COMMANDS.iter().filter(|command| !command.contains(' ')) {
        assert!(help.contains(command), "{command}");
    }
    assert!(!help.contains("shim"), "what is only for netd itself is hidden");
}

#[test]
fn every_reader_takes_json() {
    for command in ["network ls", "ps", "port ls", "ipam", "flows", "monitor", "stats"] {
        assert!(help(command).contains("--json"), "{command}");
    }
}

#[test]
fn root_goes_before_or_after_the_command() {
    for line in ["--root /nonexistent ps", "ps --root /nonexistent"] {
        let output = netd(line.split(' ')).output();
        assert_eq!(output.code, 1, "{output}");
        assert!(output.error().contains("/nonexistent/run/netd.sock"), "{output}");
    }
    let by_env = netd(["ps"]).env("NETD_ROOT", "/nonexistent").output();
    assert!(by_env.error().contains("/nonexistent/run/netd.sock"), "{by_env}");
    let by_none = netd(["--root", "/nonexistent", "ps"]).env("NETD_ROOT", "").output();
    assert!(by_none.error().contains("/nonexistent/run/netd.sock"), "{by_none}");
}
