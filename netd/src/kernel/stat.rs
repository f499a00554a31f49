//! `/proc/PID/stat` (`proc_pid_stat(5)`), as far as netd reads it.

use std::{fs, io};

/// A process, by what the kernel says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 3: `R`, `S`, `Z`, …
    pub state: char,
    /// Field 4.
    pub parent: u32,
    /// Field 22: clock ticks since boot. With the pid it names one process.
    pub start_time: u64,
}

impl Stat {
    /// The process of `pid`; `None` when there is none.
    pub fn read(pid: u32) -> io::Result<Option<Self>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(text) => Self::parse(&text)
                .map(Some)
                .ok_or_else(|| io::Error::other(format!("unexpected text in /proc/{pid}/stat"))),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(libc::ESRCH) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Zombies have ended; they only wait to be reaped.
    pub const fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// The command, field 2, is in parentheses and may hold anything, `)`
    /// included: count from the last one.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Fields 5 to 21 lie between.
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b) (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(Stat::parse(line), Some(Stat { state: 'S', parent: 7, start_time: 987_654 }));
        assert_eq!(Stat::parse("42 (a) S 7"), None);
    }
}
