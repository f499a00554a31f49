//! The charts of a report, as SVG.

use anyhow::{Result, anyhow};
use plotters::{
    coord::ranged1d::{IntoSegmentedCoord as _, SegmentValue},
    prelude::*,
};

use super::Chart;
use crate::bench::{
    contender::Contender,
    growth::names,
    paths::{Cpus, Family, Measure, Path},
    results::{Cell, Results},
    stats::estimate,
};

const SIZE: (u32, u32) = (1000, 420);
const FONT: &str = "sans-serif";

/// Colours that people with any colour vision tell apart (Okabe and Ito).
fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Netd => RGBColor(0, 114, 178),
        Contender::NetdDocker => RGBColor(86, 180, 233),
        Contender::Docker => RGBColor(213, 94, 0),
        Contender::DockerNoProxy => RGBColor(230, 159, 0),
        Contender::Cni => RGBColor(204, 121, 167),
        Contender::Netavark => RGBColor(0, 158, 115),
        Contender::Bridge => RGBColor(150, 150, 150),
        Contender::Direct => RGBColor(60, 60, 60),
    }
}

/// All that there are figures for.
pub(super) fn all(results: &Results) -> Result<Vec<Chart>> {
    let mut charts = vec![shares(results)?];
    charts.push(share(
        results,
        Measure::TcpRr,
        "share-tcp-rr.svg",
        "Transactions a second (TCP_RR), in % of a direct cable",
    )?);
    charts.push(share(
        results,
        Measure::Stream,
        "share-stream.svg",
        "TCP stream (iperf3), in % of a direct cable",
    )?);
    charts.push(ports(results)?);
    charts.push(latency(results)?);
    charts.retain(|chart| !chart.svg.is_empty());
    Ok(charts)
}

/// Connections a second beside the limit.
pub(super) fn shares(results: &Results) -> Result<Chart> {
    let title = "Connections a second (CRR), in % of a direct cable";
    share(results, Measure::Crr, "share-crr.svg", title)
}

fn share(
    results: &Results,
    measure: Measure,
    file: &'static str,
    title: &'static str,
) -> Result<Chart> {
    let contenders = all_but_direct(results);
    let bars = |path| {
        let cell = Cell { path, family: Family::V4, measure, cpus: Cpus::One };
        let of = |c: &Contender| results.ratio(*c, Contender::Direct, cell);
        contenders.iter().map(|c| of(c).map_or(0.0, |it| it.median * 100.0)).collect()
    };
    grouped(file, title, &contenders, &Path::ALL.map(bars))
}

/// The tail, as users have it.
fn latency(results: &Results) -> Result<Chart> {
    let contenders = results.took_part();
    let bars = |path| {
        let cell = Cell { path, family: Family::V4, measure: Measure::TcpRr, cpus: Cpus::All };
        let of = |contender: &Contender| {
            let found = results.of(*contender, cell).filter_map(|r| r.latency.map(|l| l.p99));
            estimate(found.collect()).map_or(0.0, |it| it.median)
        };
        contenders.iter().map(of).collect()
    };
    let title = "TCP_RR on all CPUs: µs that 99 % of transactions stay below";
    grouped("latency.svg", title, &contenders, &Path::ALL.map(bars))
}

fn all_but_direct(results: &Results) -> Vec<Contender> {
    let all = results.took_part();
    all.into_iter().filter(|contender| *contender != Contender::Direct).collect()
}

fn short(path: Path) -> &'static str {
    match path {
        Path::Neighbour => "container → container",
        Path::Outbound => "→ outside",
        Path::Published => "outside → published",
        Path::Host => "host → published",
        Path::Loopback => "127.0.0.1 → published",
        Path::Hairpin => "hairpin",
    }
}

/// Bars, a group for each path, in the order of [`Path::ALL`].
fn grouped(
    file: &'static str,
    title: &'static str,
    contenders: &[Contender],
    groups: &[Vec<f64>],
) -> Result<Chart> {
    let mut svg = String::new();
    let top = groups.iter().flatten().copied().fold(0.0, f64::max);
    if top > 0.0 {
        draw_groups(&mut svg, title, contenders, groups, top * 1.08)
            .map_err(|error| anyhow!("failed to draw {file}: {error}"))?;
    }
    Ok(Chart { file, title, svg })
}

fn draw_groups(
    svg: &mut String,
    title: &str,
    contenders: &[Contender],
    groups: &[Vec<f64>],
    top: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let paths = 0..i32::try_from(groups.len())? - 1;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 19))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(56)
        .build_cartesian_2d(paths.into_segmented(), 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .label_style((FONT, 13))
        .x_label_formatter(&|x| match x {
            SegmentValue::CenterOf(n) => {
                let path = usize::try_from(*n).ok().and_then(|n| Path::ALL.get(n));
                path.map_or_else(String::new, |path| short(*path).to_owned())
            }
            _ => String::new(),
        })
        .draw()?;
    // Bars have places of their own, which the segments of the axis have not.
    let plot = chart.plotting_area().strip_coord_spec();
    let (width, height) = plot.dim_in_pixel();
    let (width, height) = (f64::from(width), f64::from(height));
    let group = width / f64::from(u32::try_from(groups.len())?);
    let bar = group * 0.84 / f64::from(u32::try_from(contenders.len())?);
    for (g, values) in (0_u32..).zip(groups) {
        for ((n, value), contender) in (0_u32..).zip(values).zip(contenders) {
            let left = group * (f64::from(g) + 0.08) + bar * f64::from(n);
            let y = height * (1.0 - value / top);
            let corners = [pixel(left, y), pixel(left + bar - 1.0, height)];
            plot.draw(&Rectangle::new(corners, colour(*contender).filled()))?;
        }
    }
    legend(&plot, contenders, width)?;
    area.present()?;
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "a pixel")]
fn pixel(x: f64, y: f64) -> (i32, i32) {
    (x.round() as i32, y.round() as i32)
}

/// Names with their colours, a line at the top.
fn legend<DB: DrawingBackend>(
    plot: &DrawingArea<DB, plotters::coord::Shift>,
    contenders: &[Contender],
    width: f64,
) -> Result<(), Box<dyn std::error::Error>>
where
    DB::ErrorType: 'static,
{
    let step = (width / f64::from(u32::try_from(contenders.len())?)).min(125.0);
    for (n, contender) in (0_u32..).zip(contenders) {
        let left = step * f64::from(n) + 8.0;
        let corners = [pixel(left, 2.0), pixel(left + 11.0, 13.0)];
        plot.draw(&Rectangle::new(corners, colour(*contender).filled()))?;
        plot.draw(&Text::new(contender.name(), pixel(left + 16.0, 2.0), (FONT, 13)))?;
    }
    Ok(())
}

/// Connections a second as published ports grow in number.
pub(super) fn ports(results: &Results) -> Result<Chart> {
    let (file, title) =
        ("ports.svg", "Connections a second (CRR) to the port that was published last");
    let mut lines = Vec::new();
    for contender in results.took_part() {
        let of = |g: &&crate::bench::results::Growth| {
            g.contender == contender && g.what == names::CRR_BY_PORTS
        };
        let points: Vec<_> = results
            .growth
            .iter()
            .filter(of)
            .filter_map(|growth| Some((growth.at, estimate(growth.values.clone())?.median)))
            .collect();
        if !points.is_empty() {
            lines.push((contender, points));
        }
    }
    let mut svg = String::new();
    if !lines.is_empty() {
        draw_lines(&mut svg, title, &lines)
            .map_err(|error| anyhow!("failed to draw {file}: {error}"))?;
    }
    Ok(Chart { file, title, svg })
}

type Line = (Contender, Vec<(u64, f64)>);

fn draw_lines(
    svg: &mut String,
    title: &str,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = points().map(|(at, _)| *at).max().unwrap_or(1).max(2);
    let top = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let bottom = points().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 19))
        .margin(12)
        .margin_right(30)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((1..most).log_scale(), (bottom * 0.7..top * 1.3).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style((FONT, 13))
        .x_desc("published ports")
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (contender, points) in lines {
        let colour = colour(*contender);
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(contender.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 11, y + 6)], colour.filled()));
        chart.draw_series(points.iter().map(|at| Circle::new(*at, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .label_font((FONT, 13))
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}
