//! SNAT that ran out of ports is told, once a minute at most: a counter alone
//! is seen by nobody.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// What was told of the counter of `snat_ports_exhausted`.
#[derive(Debug, Default)]
pub(super) struct Exhaustion {
    /// `None`: the counter, which outlives agents, has not been looked at.
    told: Option<u64>,
    at: Option<Instant>,
}

impl Exhaustion {
    /// How many packets to tell of, now that the counter is at `count`.
    pub(super) fn due(&mut self, count: u64, now: Instant) -> Option<u64> {
        let told = *self.told.get_or_insert(count);
        let soon = self.at.is_some_and(|at| now.duration_since(at) < EVERY);
        let more = count.saturating_sub(told);
        if more == 0 || soon {
            return None;
        }
        (self.told, self.at) = (Some(count), Some(now));
        Some(more)
    }
}

pub(super) fn warn(packets: u64) {
    tracing::warn!(
        packets,
        "no SNAT port was left towards a destination, and packets were dropped \
         (snat_ports_exhausted): narrow net.ipv4.ip_local_port_range, or give a network a host \
         address of its own with -o com.docker.network.host_ipv4=ADDRESS (host_ipv6 for IPv6)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told_and_once_a_minute() {
        let mut exhaustion = Exhaustion::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(exhaustion.due(7, after(0)), None, "an earlier agent's");
        assert_eq!(exhaustion.due(7, after(10)), None);
        assert_eq!(exhaustion.due(9, after(20)), Some(2));
        assert_eq!(exhaustion.due(30, after(30)), None, "it was told ten seconds ago");
        assert_eq!(exhaustion.due(30, after(80)), Some(21));
        assert_eq!(exhaustion.due(30, after(200)), None);
    }
}
