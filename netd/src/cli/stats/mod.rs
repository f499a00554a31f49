//! `netd stats`.

mod rates;
mod screen;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Zoned;

use self::rates::{Rate, Rates};
use super::{
    Context,
    error::Outcome,
    output,
    watch::{self, Watch},
};

/// Show what each program did with its packets: verdicts, and drops by reason
///
/// Outcomes that never came are left out; --json has them all. With --watch,
/// rates instead: on a terminal a screen of them (q ends it), elsewhere a line
/// for each outcome that came since the last look.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd stats
  netd stats --all
  netd stats --watch
  netd stats --watch --interval 10
  netd stats --json | jq '[.[] | select(.Drop)]'")]
pub(super) struct Args {
    /// Show the outcomes that never came, too
    #[arg(short, long)]
    all: bool,

    /// Show rates, and go on
    #[arg(short, long)]
    watch: bool,

    /// Between two looks, with --watch
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "1",
        value_parser = watch::seconds,
        requires = "watch"
    )]
    interval: Duration,

    /// Print JSON; with --watch, an object a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        if self.watch && !self.json && io::stdout().is_terminal() && io::stdin().is_terminal() {
            return screen::run(&self, context).await;
        }
        if self.watch {
            return self.lines(context).await;
        }
        let stats = context.client.stats().await?;
        if self.json {
            output::json(&stats)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = stats.into_iter().filter(|stat| self.all || stat.packets > 0).map(|stat| {
            let outcome = if stat.drop { format!("drop: {}", stat.outcome) } else { stat.outcome };
            [stat.program, outcome, stat.packets.to_string(), stat.bytes.to_string()]
        });
        output::print(&output::table(["PROGRAM", "OUTCOME", "PACKETS", "BYTES"], rows))?;
        Ok(ExitCode::SUCCESS)
    }

    /// `--watch` where no person sits.
    async fn lines(&self, context: &Context) -> Outcome {
        let mut watch = Watch::new(self.interval)?;
        let mut rates = Rates::default();
        if !self.json {
            output::line(&columns(["TIME", "PROGRAM", "OUTCOME", "PACKETS/S", "BITS/S"]))?;
        }
        while watch.next().await {
            let stats = context.client.stats().await?;
            let Some(rates) = rates.look(stats, Instant::now()) else { continue };
            if self.json {
                let line = serde_json::to_string(&rates::Line::new(&rates));
                output::line(&line.expect("rates are JSON"))?;
                continue;
            }
            let time = Zoned::now().strftime("%H:%M:%S%.3f").to_string();
            for rate in rates.rows.iter().filter(|rate| self.all || rate.packets > 0.0) {
                output::line(&text(&time, rate))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(time: &str, rate: &Rate) -> String {
    columns([
        time,
        &rate.program,
        &rate.name(),
        &format!("{:.1}", rate.packets),
        &format!("{:.0}", rate.bits),
    ])
}

fn columns([time, program, outcome, packets, bits]: [&str; 5]) -> String {
    format!("{time:<12}   {program:<14}   {outcome:<26}   {packets:>11}   {bits:>15}")
}
