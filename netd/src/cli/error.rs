//! How a command fails: the one place that makes error texts, hints and exit
//! codes for the command line. `error: …`, then `hint: …`, on stderr; 0 is
//! success, 1 failure, 2 a usage error.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use super::style::{self, Style};
use crate::{
    api::{ClientError, ServiceError},
    runtime::RuntimeError,
};

/// What a command returns: the exit code, or why it failed.
pub(super) type Outcome = Result<ExitCode, Failure>;

#[derive(Debug)]
pub struct Failure {
    /// `None`: nobody reads our output any more, so nobody reads this either.
    message: Option<String>,
    hint: Option<Hint>,
    code: u8,
}

#[derive(Debug)]
enum Hint {
    Text(String),
    /// How to start the agent of this `--root`.
    StartAgent,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), hint: None, code: 1 }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(Hint::Text(hint.into()));
        self
    }

    /// Prints the error and gives the exit code. `root` is `--root` as given.
    pub(super) fn report(&self, root: Option<&Path>) -> ExitCode {
        let Some(message) = &self.message else {
            return ExitCode::from(self.code);
        };
        let hint = self.hint.as_ref().map(|hint| match (hint, root) {
            (Hint::Text(text), _) => text.clone(),
            (Hint::StartAgent, None) => "start it with: netd agent".to_owned(),
            (Hint::StartAgent, Some(root)) => {
                format!("start it with: netd agent --root {}", root.display())
            }
        });
        print(message, hint.as_deref());
        ExitCode::from(self.code)
    }

    /// Whether every further call would fail the same way.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self.hint, Some(Hint::StartAgent))
    }
}

fn print(message: &str, hint: Option<&str>) {
    let stderr = io::stderr();
    let style = Style::of(&stderr);
    let mut out = stderr.lock();
    // Nowhere is left to complain of a closed stderr.
    let _ = writeln!(out, "{} {message}", style.paint(style::RED, "error:"));
    if let Some(hint) = hint {
        let _ = writeln!(out, "{} {hint}", style.paint(style::CYAN, "hint:"));
    }
}

/// An error with its causes: `a: b: c`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } => {
                Self { message: Some(error.to_string()), hint: Some(Hint::StartAgent), code: 1 }
            }
            ClientError::Permission(_) => {
                Self::new(error.to_string()).with_hint("run it as root: the socket is root's")
            }
            ClientError::Agent { error, .. } => {
                Self { message: Some(error.message), hint: error.hint.map(Hint::Text), code: 1 }
            }
            ClientError::Connection { .. } => {
                Self::new(chain(&error)).with_hint("the agent's log may say why")
            }
            ClientError::Answer { .. } => Self::new(chain(&error)).with_hint(
                "the agent may be another version of netd: restart it; its containers run on",
            ),
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let failure = Self { message: Some(chain(&error)), hint: None, code: error.exit_code() };
        match error {
            RuntimeError::Namespace { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                failure.with_hint("run it as root")
            }
            _ => failure,
        }
    }
}

/// Of writing to stdout. A reader that has left, as `head` does, is no error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { message: None, hint: None, code: 0 }
        } else {
            Self::new(format!("failed to write the output: {error}"))
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let hint = error.downcast_ref::<ServiceError>().and_then(|error| error.hint.clone());
        Self { message: Some(format!("{error:#}")), hint: hint.map(Hint::Text), code: 1 }
    }
}

/// clap's errors in our shape; its help and version as they are.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let (message, hint) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // The help, on stderr.
            let _ = error.print();
            let _ = writeln!(io::stderr());
            ("a command is expected".to_owned(), None)
        }
        ErrorKind::MissingSubcommand => {
            let (message, _) = reshape(&error.to_string());
            // The list has the hidden ones too.
            let message = message.split(" [subcommands").next().unwrap_or_default();
            let command = message.split('\'').nth(1).unwrap_or("netd");
            (message.to_owned(), Some(format!("`{command} --help` lists the commands")))
        }
        _ => reshape(&error.to_string()),
    };
    print(&message, hint.as_deref());
    ExitCode::from(2)
}

/// From clap's paragraphs, message, tips, usage and "for more information",
/// to a line and a hint: the tip if there is one, or else the usage.
fn reshape(text: &str) -> (String, Option<String>) {
    let mut message = "";
    let mut tip = None;
    let mut usage = None;
    for (index, paragraph) in text.split("\n\n").enumerate() {
        let paragraph = paragraph.trim();
        if index == 0 {
            message = paragraph.strip_prefix("error:").unwrap_or(paragraph);
        } else if let Some(text) = paragraph.strip_prefix("tip:") {
            tip = tip.or(Some(one_line(text)));
        } else if let Some(text) = paragraph.strip_prefix("Usage:") {
            usage = Some(format!("usage: {}", one_line(text)));
        }
    }
    (one_line(message), tip.or(usage))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_a_line_and_a_hint() {
        let text = "error: unexpected argument '--nmae' found\n\n  tip: a similar argument exists: \
                    '--name'\n\nUsage: netd run --name <NAME> -- <CMD>...\n\nFor more information, \
                    try '--help'.\n";
        assert_eq!(
            reshape(text),
            (
                "unexpected argument '--nmae' found".into(),
                Some("a similar argument exists: '--name'".into())
            )
        );
        let text = "error: the following required arguments were not provided:\n  <NET>\n  \
                    <CTR>\n\nUsage: netd network connect <NET> <CTR>\n\nFor more information, try \
                    '--help'.\n";
        assert_eq!(
            reshape(text),
            (
                "the following required arguments were not provided: <NET> <CTR>".into(),
                Some("usage: netd network connect <NET> <CTR>".into())
            )
        );
    }
}
