//! Commands that look again and again: the interval, and what ends them.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use super::error::Failure;

/// `--interval`: seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || "0.1 to 3600 seconds are expected".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(expected())
    }
}

/// Ticks, the first at once, until a signal says that it is enough.
pub(super) struct Watch {
    ticks: Interval,
    interrupt: Signal,
    terminate: Signal,
}

impl Watch {
    pub(super) fn new(every: Duration) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(format!("failed to watch signals: {error}"));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            ticks,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Whether there is a next time, which has come. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => false,
            _ = self.ticks.tick() => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "nan", "1s", "", "3601", "inf"] {
            assert_eq!(seconds(wrong), Err("0.1 to 3600 seconds are expected".into()), "{wrong}");
        }
    }
}
