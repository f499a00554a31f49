//! Log lines for journald: it has the time itself, and takes the level from
//! the number in front of a line (`sd-daemon(3)`).

use std::{env, fmt, io};

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Whether stderr goes to the journal: it is the file that `JOURNAL_STREAM`
/// names (systemd.exec(5)), and was not redirected since.
pub(super) fn has_stderr() -> bool {
    let Ok(file) = fstat(io::stderr()) else {
        return false;
    };
    env::var("JOURNAL_STREAM").is_ok_and(|it| it == format!("{}:{}", file.st_dev, file.st_ino))
}

/// `<6>netd::agent::start: ready version="0.1.0"`
#[derive(Debug)]
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        write!(writer, "<{}>{}: ", priority(*metadata.level()), metadata.target())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// syslog(3)'s number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
