//! What a wrong command line is told: code 2 and where it went wrong; code 1
//! where no agent answers. No root.

use netd_tests::netd;

/// The exit code and stderr of `netd LINE`; data is never printed.
fn failure(line: &str) -> String {
    let root = tempfile::tempdir().expect("a folder");
    let output =
        netd(["--root".as_ref(), root.path().as_os_str()]).args(line.split_whitespace()).output();
    assert_eq!(output.stdout, "", "{output}");
    let stderr = output.stderr.replace(&root.path().display().to_string(), "DIR");
    format!("exit {}\n{stderr}", output.code)
}

const USAGE: &[(&str, &str)] = &[
    ("no_command", ""),
    ("unknown_command", "nosuch"),
    ("near_command", "netwrok ls"),
    ("unknown_option", "run --nosuch -- true"),
    ("run_without_command", "run -d"),
    ("run_bad_port", "run -p 8080:99999 -- true"),
    ("run_bad_protocol", "run -p 8080:80/icmp -- true"),
    ("run_bad_address", "run --ip nonsense -- true"),
    ("network_create_without_name", "network create"),
    ("network_create_bad_subnet", "network create --subnet nonsense mine"),
    ("network_create_bad_option", "network create -o nonsense mine"),
    ("network_rm_without_name", "network rm"),
    ("port_add_without_spec", "port add web"),
    ("stop_without_name", "stop"),
];

#[test]
fn a_wrong_command_line_exits_with_2_and_says_where() {
    for (name, line) in USAGE {
        let failure = failure(line);
        assert!(failure.starts_with("exit 2\nerror: "), "netd {line}: {failure}");
        insta::assert_snapshot!(*name, failure, &format!("netd {line}"));
    }
}

#[test]
fn without_an_agent_every_command_says_how_to_start_one() {
    for line in ["ps", "network ls", "stop web", "run -- true", "flows", "port ls"] {
        let failure = failure(line);
        assert!(failure.starts_with("exit 1\nerror: "), "netd {line}: {failure}");
        assert!(failure.contains("hint: "), "netd {line}: {failure}");
    }
    insta::assert_snapshot!("no_agent", failure("ps"));
}

#[test]
fn no_colour_reaches_a_pipe() {
    assert!(!failure("nosuch").contains('\u{1b}'));
}
