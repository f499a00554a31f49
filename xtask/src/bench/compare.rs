//! Two runs' verdicts beside each other.

use super::{
    goals::{Row, Verdict},
    report::Kept,
};

/// What two runs say of one goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Same,
    /// One of them can't tell.
    Undecided,
    /// One met what the other was short of.
    Contradicts,
    /// One of them did not look.
    Unknown,
}

fn finding(before: Verdict, now: Verdict) -> Finding {
    match (before, now) {
        (Verdict::NotMeasured, _) | (_, Verdict::NotMeasured) => Finding::Unknown,
        _ if before == now => Finding::Same,
        (Verdict::Met, Verdict::Short) | (Verdict::Short, Verdict::Met) => Finding::Contradicts,
        _ => Finding::Undecided,
    }
}

/// Prints what differs, and how much is the same. Both runs are judged by
/// today's goals.
pub(super) fn print(before: &Kept, now: &[Row]) {
    let machine = &before.machine;
    crate::shell::heading(format_args!(
        "Beside the run of {}, commit {}, on {}",
        machine.date, machine.commit, machine.processor
    ));
    let (mut same, mut undecided, mut contradict) = (0, 0, 0);
    for row in now {
        let Some(earlier) = before.rows.iter().find(|it| it.what == row.what) else { continue };
        let verdict = row.goal.judge(earlier.measured);
        let mark = match finding(verdict, row.verdict) {
            Finding::Unknown => continue,
            Finding::Same => {
                same += 1;
                continue;
            }
            Finding::Undecided => {
                undecided += 1;
                "undecided"
            }
            Finding::Contradicts => {
                contradict += 1;
                "CONTRADICTS"
            }
        };
        let (before, now) = (said(earlier, verdict), said(row, row.verdict));
        println!("{mark:<12} {} {}: {before}, now {now}", row.what, row.goal);
    }
    println!(
        "{same} verdicts are the same, {undecided} differ where one run's interval has the goal, \
         {contradict} contradict each other"
    );
}

/// A verdict with its figures.
fn said(row: &Row, verdict: Verdict) -> String {
    let Some(it) = row.measured else { return verdict.title().to_owned() };
    let (title, unit) = (verdict.title(), &row.unit);
    format!("{title} ({:.3} [{:.3}–{:.3}] {unit})", it.median, it.low, it.high)
}

#[cfg(test)]
mod tests {
    use super::{Finding, Verdict, finding};

    #[test]
    fn only_met_and_short_contradict_each_other() {
        use Verdict::{Met, NotMeasured, Short, WithinNoise};
        for verdict in [Met, WithinNoise, Short] {
            assert_eq!(finding(verdict, verdict), Finding::Same);
            assert_eq!(finding(verdict, NotMeasured), Finding::Unknown);
        }
        for decided in [Met, Short] {
            assert_eq!(finding(decided, WithinNoise), Finding::Undecided);
            assert_eq!(finding(WithinNoise, decided), Finding::Undecided);
        }
        assert_eq!(finding(Met, Short), Finding::Contradicts);
        assert_eq!(finding(Short, Met), Finding::Contradicts);
    }
}
