//! Colours: only on a terminal, and only without `NO_COLOR`
//! (<https://no-color.org>).

use std::{env, io::IsTerminal};

pub(super) const PLAIN: &str = "0";
pub(super) const RED: &str = "1;31";
pub(super) const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";
pub(super) const CYAN: &str = "36";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Colours,
}

impl Style {
    pub(super) fn of(stream: &impl IsTerminal) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        if stream.is_terminal() && !refused { Self::Colours } else { Self::Plain }
    }

    pub(super) fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colours if colour == PLAIN => text.to_owned(),
            Self::Colours => format!("\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}
