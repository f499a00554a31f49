//! `cargo xtask bench`: netd beside what people use instead, in one run, on one
//! machine. It sets up each contender on machines of its own
//! ([`contender`]), measures all of them in turn ([`rounds`], [`growth`]), and
//! draws the result ([`report`]).

mod compare;
mod contender;
mod goals;
mod growth;
mod micro;
mod ns;
mod paths;
mod report;
mod results;
mod rounds;
mod site;
mod stats;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{build, setup, shell};
use contender::Contender;
use growth::Extent;
use results::{Entrant, Results};
use rounds::{Plan, Sites};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What tells most, in about two minutes
    #[arg(long)]
    quick: bool,
    /// How many rounds [default: 5; with --quick 3]
    #[arg(long)]
    rounds: Option<u32>,
    /// How many brief rounds more of what the goals are about [default: 24;
    /// with --quick none]
    #[arg(long, value_name = "ROUNDS")]
    more: Option<u32>,
    /// Measure these only, `direct` beside them
    #[arg(long, value_delimiter = ',', value_name = "CONTENDER")]
    only: Vec<Contender>,
    /// Leave out a part
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    without: Vec<Part>,
    /// Write the table and two charts into the README, and each goal with its
    /// figure into `docs`
    #[arg(long)]
    readme: bool,
    /// Say which verdicts differ from those of an earlier run [default: the one
    /// in `docs`]
    #[arg(long, value_name = "BENCHMARK.JSON", num_args = 0..=1, default_missing_value = report::KEPT)]
    compare: Option<PathBuf>,
    /// Measure nothing: report again what an earlier run kept in this file
    #[arg(long, value_name = "RESULTS.JSON")]
    report: Option<PathBuf>,
    /// All is built already: set when the benchmark starts itself again
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The rounds at each path
    Paths,
    Growth,
    Micro,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let folder = shell::target_dir().join("bench");
    let earlier = args.compare.as_deref().map(report::Kept::read).transpose()?;
    if let Some(file) = &args.report {
        let text = fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        let results = serde_json::from_str(&text).context("this is not a run's results")?;
        return finish(args, &results, earlier.as_ref(), &folder);
    }
    if !args.built {
        return build_and_start_again(args);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let start = Instant::now();
    ns::make_scratch()?;
    let mut results = Results { machine: rounds::machine()?, ..Results::default() };
    let measured = measure(args, &mut results, &interrupted);
    let cleared = ns::clear_away();
    // What there is by now is worth more than nothing.
    let reported = finish(args, &results, earlier.as_ref(), &folder);
    measured.and(cleared).and(reported)?;
    shell::heading(format_args!("Measured in {:.0} s", start.elapsed().as_secs_f32()));
    Ok(())
}

/// Installs the contenders, builds netd and this program optimised, and gives
/// way to the latter, as root.
fn build_and_start_again(args: &Args) -> Result<()> {
    setup::ensure()?;
    for contender in chosen(args) {
        if let Err(error) = contender.install() {
            eprintln!("    {} is left out: {error:#}", contender.name());
        }
    }
    let mut command = shell::cargo();
    command.args(["build", "--release", "--package", "netd", "--package", "xtask"]);
    command.args(["--package", "netd-tests", "--bins"]);
    shell::run("Building netd and the benchmark, optimised", &mut command)?;
    let program = build::binary(build::Profile::Release).with_file_name("xtask");
    let mut again = shell::as_root(program)?;
    let error = again.args(std::env::args_os().skip(1)).arg("--built").exec();
    Err(error).context("failed to start the benchmark as root")
}

/// The contenders of a run, in their order. All ratios to the limit need
/// `direct`.
fn chosen(args: &Args) -> Vec<Contender> {
    const QUICK: [Contender; 4] =
        [Contender::Direct, Contender::Docker, Contender::Netavark, Contender::Netd];
    let is_chosen = |contender: &Contender| match args.only.as_slice() {
        [] if args.quick => QUICK.contains(contender),
        [] => true,
        only => *contender == Contender::Direct || only.contains(contender),
    };
    Contender::ALL.into_iter().filter(is_chosen).collect()
}

fn measure(args: &Args, results: &mut Results, interrupted: &AtomicBool) -> Result<()> {
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 5 });
    ensure!(rounds > 0, "no rounds, no figures");
    let more = args.more.unwrap_or(if args.quick { 0 } else { 24 });
    let wanted = |part| !args.without.contains(&part);
    let mut sites = Sites::new();
    shell::heading("Setting up the contenders");
    for contender in chosen(args) {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        let left_out = match contender.start() {
            Ok(site) => {
                sites.push((contender, site));
                None
            }
            // The product itself is not left out.
            Err(error) if contender == Contender::Netd => bail!(error),
            Err(error) => {
                eprintln!("    {} is left out: {error:#}", contender.name());
                Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned())
            }
        };
        let version = contender.version();
        results.contenders.push(Entrant { contender, version, left_out });
    }
    if wanted(Part::Paths) {
        let plan = if args.quick { Plan::quick(rounds, more) } else { Plan::full(rounds, more) };
        rounds::measure(&plan, &mut sites, results, interrupted)?;
    }
    drop(sites);
    if wanted(Part::Growth) {
        let extent =
            if args.quick { Extent::quick(rounds, more) } else { Extent::full(rounds, more) };
        let contenders = results.took_part();
        growth::measure(&extent, &contenders, results, interrupted)?;
    }
    if wanted(Part::Micro) {
        shell::heading("One packet");
        results.micro = micro::measure()?;
    }
    Ok(())
}

fn finish(
    args: &Args,
    results: &Results,
    earlier: Option<&report::Kept>,
    folder: &Path,
) -> Result<()> {
    report::write(results, folder)?;
    let rows = goals::rows(results);
    for row in &rows {
        if let Some(measured) = row.measured {
            println!(
                "{:<12}  {:<62} {:>7}  {:.3} [{:.3}–{:.3}] {}",
                row.verdict.title(),
                row.what,
                row.goal,
                measured.median,
                measured.low,
                measured.high,
                row.unit
            );
        }
    }
    if let Some(earlier) = earlier {
        compare::print(earlier, &rows);
    }
    if args.readme {
        report::update_readme(results)?;
    }
    shell::heading(format_args!("Report: {}", folder.join("index.html").display()));
    Ok(())
}
