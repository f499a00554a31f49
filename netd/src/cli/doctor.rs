//! `netd doctor`: asks the agent and the packet filters' own tools, and shows
//! what [`crate::doctor`] makes of it.

use std::{
    fmt::Write as _,
    io,
    process::{Command, ExitCode, Stdio},
};

use super::{
    Context,
    error::Outcome,
    output,
    style::{self, Style},
};
use crate::{
    api::ClientError,
    doctor::{Check, Host, Known, Status, checks},
};

/// Check what of this host helps or hinders netd
///
/// It reads and changes nothing. The exit code is 1 if there is a problem;
/// notes and warnings don't count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd doctor
  netd doctor --json | jq '.[] | select(.Status != \"ok\")'")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let host = Host::here();
        let mut known = Known {
            nft_chains: host.has_nftables().then(|| tool("nft", &["list", "chains"])).flatten(),
            iptables: host
                .has_iptables_filter()
                .then(|| tool("iptables-save", &["-t", "filter"]))
                .flatten(),
            ..Known::default()
        };
        let agent = agent(context, &mut known).await;
        let mut rows = checks(&host, &known);
        rows.push(agent);
        if self.json {
            output::json(&rows)?;
        } else {
            output::print(&text(&rows))?;
        }
        let problem = rows.iter().any(|check| check.status == Status::Problem);
        Ok(ExitCode::from(u8::from(problem)))
    }
}

/// Whether an agent answers; what it knows goes to `known`.
async fn agent(context: &Context, known: &mut Known) -> Check {
    let check = |status, found: String| Check::new("agent", status, found);
    let answer = async {
        Ok::<_, ClientError>((context.client.info().await?, context.client.networks().await?))
    };
    match answer.await {
        Ok((info, networks)) => {
            known.uplinks = info.uplinks;
            known.xdp = info.xdp.into_iter().map(|it| (it.link, it.mode, it.reason)).collect();
            known.networks = networks
                .into_iter()
                .flat_map(|network| {
                    let name = network.name;
                    network
                        .subnets
                        .into_iter()
                        .filter_map(move |subnet| Some((name.clone(), subnet.parse().ok()?)))
                })
                .collect();
            check(
                Status::Ok,
                format!(
                    "netd {}, pid {}, answers on {}",
                    info.version,
                    info.pid,
                    context.paths.socket.display()
                ),
            )
        }
        Err(error @ ClientError::Unreachable { .. }) => {
            let root = match &context.root {
                Some(root) => format!(" --root {}", root.display()),
                None => String::new(),
            };
            check(Status::Warning, error.to_string()).action(format!("netd agent{root}"))
        }
        Err(error @ ClientError::Permission(_)) => {
            check(Status::Warning, error.to_string()).action("run it as root")
        }
        Err(error) => check(Status::Problem, error.to_string()).action("restart the agent"),
    }
}

/// What a tool prints, if it is there and is let. It only lists; the caller
/// has seen that the kernel's side of it is loaded already.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rows as a table, and below it what to do.
fn text(checks: &[Check]) -> String {
    let table = output::table(
        ["CHECK", "STATUS", "FOUND"],
        checks.iter().map(|check| {
            [check.name.clone(), check.status.as_str().to_owned(), check.found.clone()]
        }),
    );
    let style = Style::of(&io::stdout());
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let status = index.checked_sub(1).and_then(|row| checks.get(row));
        match status.map(|check| check.status) {
            // No check's name contains a status.
            Some(status) => text.push_str(&line.replacen(
                status.as_str(),
                &style.paint(colour(status), status.as_str()),
                1,
            )),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    let mut heading = "\nWhat to do:\n";
    for check in checks {
        if let Some(action) = &check.action {
            text.push_str(heading);
            heading = "";
            let _ = writeln!(text, "  {}: {action}", check.name);
        }
    }
    text
}

fn colour(status: Status) -> &'static str {
    match status {
        Status::Ok => style::GREEN,
        Status::Note => style::CYAN,
        Status::Warning => style::YELLOW,
        Status::Problem => style::RED,
    }
}
