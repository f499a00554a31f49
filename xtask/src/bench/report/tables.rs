//! The tables of a report.

use std::collections::BTreeSet;

use super::Table;
use crate::bench::{
    contender::Contender,
    goals,
    paths::{Cpus, Family, Measure, Path},
    results::{Cell, Percentiles, Results},
    stats::{Estimate, estimate},
};

/// Those without rows are of what was not measured.
pub(super) fn all(results: &Results) -> Vec<Table> {
    let mut tables = vec![goals(results), summary(results), contenders(results)];
    for family in Family::ALL {
        tables.push(rates(results, family));
        tables.push(costs(results, family));
    }
    tables.extend([latencies(results), growth(results), micro(results), missing(results)]);
    tables
}

pub(super) fn goals(results: &Results) -> Table {
    let mut table = Table::new(
        "Goals",
        "Each goal with its measured figure, and what one veth pair, `direct`, has in netd's place: \
         no network between the two ends can be much better than none.",
        ["", "goal", "measured", "one veth pair", "verdict"],
    );
    let figure = |it: Option<Estimate>, unit: &str| {
        it.map_or_else(|| "–".to_owned(), |it| format!("{} {unit}", spread(it)))
    };
    table.rows = goals::rows(results)
        .into_iter()
        .map(|row| {
            let (measured, limit) = (figure(row.measured, &row.unit), figure(row.limit, &row.unit));
            vec![row.what, row.goal.to_string(), measured, limit, row.verdict.title().to_owned()]
        })
        .collect();
    table
}

/// netd beside each other one, a line a path: what the README shows.
pub(super) fn summary(results: &Results) -> Table {
    let others = [
        Contender::Docker,
        Contender::DockerNoProxy,
        Contender::Cni,
        Contender::Netavark,
        Contender::Bridge,
        Contender::Direct,
    ];
    let others: Vec<_> =
        others.into_iter().filter(|other| results.took_part().contains(other)).collect();
    let head = [String::new()].into_iter().chain(others.iter().map(|c| format!("÷ {}", c.name())));
    let mut table = Table::new(
        "netd ÷ others",
        "netd's rate by another's, IPv4, both ends on one CPU: TCP_RR / UDP_RR / CRR / TCP stream. \
         More than 1: netd is faster.",
        head,
    );
    for path in Path::ALL {
        let mut row = vec![path.title().to_owned()];
        for other in &others {
            let measures = [Measure::TcpRr, Measure::UdpRr, Measure::Crr, Measure::Stream];
            let ratios = measures.map(|measure| {
                let cell = Cell { path, family: Family::V4, measure, cpus: Cpus::One };
                let ratio = results.ratio(Contender::Netd, *other, cell);
                ratio.map_or_else(|| "–".to_owned(), |ratio| number(ratio.median))
            });
            row.push(ratios.join(" / "));
        }
        table.rows.push(row);
    }
    table
}

fn contenders(results: &Results) -> Table {
    let mut table = Table::new("Contenders", "", ["", "what it is", "version"]);
    table.rows = results
        .contenders
        .iter()
        .map(|entrant| {
            let version = match &entrant.left_out {
                Some(reason) => format!("left out: {reason}"),
                None => entrant.version.clone(),
            };
            vec![entrant.contender.name().to_owned(), entrant.contender.what().to_owned(), version]
        })
        .collect();
    table
}

fn rates(results: &Results, family: Family) -> Table {
    by_contender(
        results,
        &format!("Rates, {}", family.title()),
        "Both ends on one CPU. Transactions, packets or Gbit a second.",
        |contender, path, measure| {
            let cell = Cell { path, family, measure, cpus: Cpus::One };
            results.value(contender, cell).map(spread)
        },
    )
}

fn costs(results: &Results, family: Family) -> Table {
    by_contender(
        results,
        &format!("CPU, {}", family.title()),
        "CPU seconds of the whole machine for a million transactions or packets, or a gigabyte; the \
         two ends' own are in it.",
        |contender, path, measure| {
            let cell = Cell { path, family, measure, cpus: Cpus::One };
            estimate(results.of(contender, cell).filter_map(|r| r.cpu).collect())
                .map(|it| number(it.median))
        },
    )
}

fn by_contender(
    results: &Results,
    title: &str,
    note: &str,
    figure: impl Fn(Contender, Path, Measure) -> Option<String>,
) -> Table {
    let all = results.took_part();
    let head = [String::new()].into_iter().chain(all.iter().map(|c| c.name().to_owned()));
    let mut table = Table::new(title, note, head);
    for path in Path::ALL {
        for measure in Measure::ALL {
            let figures: Vec<_> = all.iter().map(|c| figure(*c, path, measure)).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let mut row = vec![format!("{}, {}", path.title(), measure.title())];
            row.extend(figures.into_iter().map(|it| it.unwrap_or_else(|| "–".to_owned())));
            table.rows.push(row);
        }
    }
    table
}

fn latencies(results: &Results) -> Table {
    let mut table = by_contender(
        results,
        "Latency",
        "µs, IPv4, on all CPUs: p50 / p90 / p99 / p99.9, each the median over the rounds.",
        |contender, path, measure| {
            let cell = Cell { path, family: Family::V4, measure, cpus: Cpus::All };
            let of = |pick: fn(&Percentiles) -> f64| {
                let found =
                    results.of(contender, cell).filter_map(|r| r.latency.as_ref().map(pick));
                estimate(found.collect()).map(|it| number(it.median))
            };
            let all = [of(|l| l.p50)?, of(|l| l.p90)?, of(|l| l.p99)?, of(|l| l.p999)?];
            Some(all.join(" / "))
        },
    );
    table.rows.retain(|row| row.iter().skip(1).any(|cell| cell != "–"));
    table
}

fn growth(results: &Results) -> Table {
    let sizes: BTreeSet<_> = results.growth.iter().map(|growth| growth.at).collect();
    let head = [String::new(), "unit".to_owned()]
        .into_iter()
        .chain(sizes.iter().map(|at| format!("at {}", thousands(*at))));
    let mut table = Table::new(
        "Growth",
        "The port that is asked is the last one published. dockerd's rules for the ports before it are \
         entered by iptables-restore: dockerd itself takes hours. Attaching is the call of a runtime: \
         netd's API, the CNI plugins bridge and portmap, netavark, `docker network connect`.",
        head,
    );
    let mut done = Vec::new();
    for growth in &results.growth {
        let of = (growth.what.as_str(), growth.contender);
        if done.contains(&of) {
            continue;
        }
        done.push(of);
        let mut row =
            vec![format!("{}: {}", growth.what, growth.contender.name()), growth.unit.clone()];
        row.extend(sizes.iter().map(|at| {
            let found = results.grown(growth.contender, &growth.what, *at);
            found.map_or_else(|| "–".to_owned(), spread)
        }));
        table.rows.push(row);
    }
    table
}

fn micro(results: &Results) -> Table {
    let mut table = Table::new(
        "One packet",
        "netd's programs on one packet by BPF_PROG_TEST_RUN, the packet made anew each time: the least \
         of many runs. Map operations are those of the host model on the same packet; each program \
         counts its verdict beside them. Instructions are all of the programs that the packet runs \
         through, after the verifier.",
        ["", "ns", "map operations", "instructions"],
    );
    table.rows = results
        .micro
        .iter()
        .map(|micro| {
            let time = number(micro.nanoseconds);
            vec![micro.path.clone(), time, micro.lookups.to_string(), thousands(micro.instructions)]
        })
        .collect();
    table
}

fn missing(results: &Results) -> Table {
    let mut table = Table::new("What does not work", "", ["", "path", "measure", "why"]);
    table.rows = results
        .missing
        .iter()
        .map(|missing| {
            let measure = match missing.measure {
                Measure::UdpRr => "UDP",
                _ => "TCP",
            };
            vec![
                missing.contender.name().to_owned(),
                format!("{}, {}", missing.path.title(), missing.family.title()),
                measure.to_owned(),
                missing.reason.replace('|', "/"),
            ]
        })
        .collect();
    table
}

fn spread(it: Estimate) -> String {
    if it.count < 2 {
        return number(it.median);
    }
    format!("{} [{}–{}]", number(it.median), number(it.low), number(it.high))
}

/// Three digits that count, and no more than two after the point.
fn number(value: f64) -> String {
    if value >= 1000.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is rounded"
        )]
        let rounded = value.round() as u64;
        thousands(rounded)
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{number, thousands};

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!(number(39_123.4), "39,123");
        assert_eq!(number(123.45), "123");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(1.294), "1.29");
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(thousands(12), "12");
    }
}
