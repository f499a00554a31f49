//! `netd stats --watch` on a terminal: a screen of rates, drawn anew at each
//! look.

use std::{collections::VecDeque, io, process::ExitCode, thread, time::Instant};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Paragraph, Row, Sparkline, Table},
};
use tokio::sync::mpsc;

use super::{
    Args,
    rates::{Interval, Rate, Rates, human},
};
use crate::{
    api::types::Info,
    cli::{
        Context,
        error::{Failure, Outcome},
        style,
        watch::Watch,
    },
};

/// Columns of the table's text, and of its widest bar.
const FIXED: u16 = 15 + 27 + 10 + 10 + 14 + 5 * 2;
const WIDEST: usize = 40;
/// Looks that the curves go back at most.
const HISTORY: usize = 600;

/// What is on the screen.
struct Screen {
    root: String,
    info: Info,
    interval: Option<Interval>,
    /// Packets a second, the last one last: let through, and dropped.
    passed: VecDeque<u64>,
    dropped: VecDeque<u64>,
    /// Outcomes that never came, too.
    all: bool,
    colours: style::Style,
}

pub(super) async fn run(args: &Args, context: &Context) -> Outcome {
    // Before the screen is taken: whatever fails is to be read.
    let mut screen = Screen {
        root: context.paths.socket.display().to_string(),
        info: context.client.info().await?,
        interval: None,
        passed: VecDeque::new(),
        dropped: VecDeque::new(),
        all: args.all,
        colours: style::Style::of(&io::stdout()),
    };
    let watch = Watch::new(args.interval)?;
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::new(format!("failed to use the terminal: {error}")))?;
    let outcome = watch_on(&mut terminal, &mut screen, context, watch).await;
    ratatui::restore();
    outcome
}

async fn watch_on(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    context: &Context,
    mut watch: Watch,
) -> Outcome {
    let mut rates = Rates::default();
    let mut events = events();
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            more = watch.next() => {
                if !more {
                    return Ok(ExitCode::SUCCESS);
                }
                let stats = context.client.stats().await?;
                screen.info = context.client.info().await?;
                screen.look(rates.look(stats, Instant::now()));
            }
            event = events.recv() => match event {
                Some(event) if !ends(&event) => {}
                _ => return Ok(ExitCode::SUCCESS),
            }
        }
    }
}

/// The terminal's events. Their reader waits for the next one to the end of
/// the process.
fn events() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Whether this is the key that ends it.
fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

impl Screen {
    fn look(&mut self, interval: Option<Interval>) {
        let Some(interval) = interval else { return };
        let (passed, dropped) = interval.sums();
        for (curve, value) in [(&mut self.passed, passed), (&mut self.dropped, dropped)] {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            // A rate is never below 0, nor near 2^64.
            curve.push_back(value.round() as u64);
            while curve.len() > HISTORY {
                curve.pop_front();
            }
        }
        self.interval = Some(interval);
    }

    fn colour(&self, colour: Color) -> Style {
        match self.colours {
            style::Style::Plain => Style::new(),
            style::Style::Colours => Style::new().fg(colour),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let layout = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(7),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]);
        let [title, curves, table, foot] = layout.areas(frame.area());
        frame.render_widget(self.title(), title);
        let [left, right] =
            Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(curves);
        let (passed, dropped) = self.interval.as_ref().map(Interval::sums).unwrap_or_default();
        self.curve(frame, left, "let through", passed, &self.passed, Color::Green);
        self.curve(frame, right, "dropped", dropped, &self.dropped, Color::Red);
        self.table(frame, table);
        let hint = Line::from(vec![
            Span::styled(" q ", Style::new().add_modifier(Modifier::REVERSED)),
            Span::raw(" quit   a packet counts in each program that it passes"),
        ]);
        frame.render_widget(hint.style(self.colour(Color::DarkGray)), foot);
    }

    fn title(&self) -> Paragraph<'_> {
        let Info { version, networks, containers, uplinks, xdp, .. } = &self.info;
        let uplinks: Vec<_> = uplinks
            .iter()
            .map(|link| match xdp.iter().find(|it| it.link == *link) {
                Some(it) if it.mode != "off" => format!("{link} (XDP {})", it.mode),
                _ => link.clone(),
            })
            .collect();
        Paragraph::new(Line::from(vec![
            Span::styled(
                format!(" netd {version} "),
                Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            ),
            Span::raw(format!(
                "  networks {networks}   containers {containers}   uplinks {}   ",
                uplinks.join(" ")
            )),
            Span::styled(&self.root, self.colour(Color::DarkGray)),
        ]))
    }

    fn curve(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        what: &str,
        now: f64,
        history: &VecDeque<u64>,
        colour: Color,
    ) {
        let highest = history.iter().max().copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let highest = human(highest as f64);
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(self.colour(Color::DarkGray))
            .title(Line::from(format!(" {what} ")).left_aligned())
            .title(
                Line::from(format!(" {} packets/s, highest {highest} ", human(now)))
                    .style(self.colour(colour).add_modifier(Modifier::BOLD))
                    .right_aligned(),
            );
        let width = usize::from(block.inner(area).width);
        let shown: Vec<u64> =
            history.iter().skip(history.len().saturating_sub(width)).copied().collect();
        let curve = Sparkline::default().block(block).data(shown).style(self.colour(colour));
        frame.render_widget(curve, area);
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(interval) = &self.interval else {
            frame.render_widget(Line::from(" Counting …"), area);
            return;
        };
        let bars = usize::from(area.width.saturating_sub(FIXED)).min(WIDEST);
        let most = interval.rows.iter().map(|rate| rate.packets).fold(0.0, f64::max);
        let shown = interval.rows.iter().filter(|rate| self.all || rate.total > 0);
        let rows = shown.map(|rate| {
            let colour = match (rate.packets > 0.0, rate.drop) {
                (false, _) => self.colour(Color::DarkGray),
                (true, true) => self.colour(Color::Red),
                (true, false) => Style::new(),
            };
            Row::new(self.cells(rate, most, bars)).style(colour)
        });
        let head = ["PROGRAM", "OUTCOME", "PACKETS/S", "", "BITS/S", "PACKETS"];
        let right = |text: &str| Line::from(text.to_owned()).right_aligned();
        let head = head.map(|text| match text {
            "PROGRAM" | "OUTCOME" | "" => Line::from(text),
            _ => right(text),
        });
        let widths = [
            Constraint::Length(15),
            Constraint::Length(27),
            Constraint::Length(10),
            Constraint::Length(u16::try_from(bars).unwrap_or(0)),
            Constraint::Length(10),
            Constraint::Length(14),
        ];
        let head = Row::new(head).style(Style::new().add_modifier(Modifier::BOLD));
        frame.render_widget(Table::new(rows, widths).header(head).column_spacing(2), area);
    }

    fn cells(&self, rate: &Rate, most: f64, bars: usize) -> [Line<'static>; 6] {
        let right = |text: String| Line::from(text).right_aligned();
        let colour = if rate.drop { Color::Red } else { Color::Green };
        [
            Line::from(rate.program.clone()),
            Line::from(rate.name()),
            right(human(rate.packets)),
            Line::styled(bar(rate.packets, most, bars), self.colour(colour)),
            right(human(rate.bits)),
            right(rate.total.to_string()),
        ]
    }
}

/// As long, of `width` characters, as `value` is of `most`, in eighths.
fn bar(value: f64, most: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if value <= 0.0 || most <= 0.0 || width == 0 {
        return String::new();
    }
    let whole = f64::from(u32::try_from(width * 8).unwrap_or(8));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to `whole`")]
    let eighths = (value / most * whole).round().clamp(1.0, whole) as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{api::types::StatRow, cli::stats::rates};

    fn screen() -> Screen {
        let info = serde_json::json!({
            "Version": "1.2.3", "Pid": 1, "StateDir": "/", "Attach": "tcx", "Pins": "/",
            "Uplinks": ["eth0", "eth1"],
            "Xdp": [{"Link": "eth0", "Mode": "native", "Reason": null}],
            "Networks": 2, "Containers": 3
        });
        Screen {
            root: "/run/netd/netd.sock".into(),
            info: serde_json::from_value(info).unwrap(),
            interval: None,
            passed: VecDeque::new(),
            dropped: VecDeque::new(),
            all: false,
            colours: style::Style::Plain,
        }
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn busy() -> Screen {
        let mut screen = screen();
        let (mut rates, start) = (rates::Rates::default(), Instant::now());
        for second in 0..40_u64 {
            let row = |program: &str, outcome: &str, drop, packets: u64| StatRow {
                program: program.into(),
                outcome: outcome.into(),
                drop,
                packets,
                bytes: packets * 700,
            };
            let stats = vec![
                row("from_container", "forward", false, second * second * 1000),
                row("from_container", "spoofed_address", true, second / 10 * 50),
                row("from_uplink", "deliver", false, second * 20_000),
                row("from_uplink", "malformed", true, 0),
                row("to_uplink", "pass", false, 77),
            ];
            let at = start + std::time::Duration::from_secs(second);
            screen.look(rates.look(stats, at));
        }
        screen
    }

    #[test]
    fn a_screen_has_curves_and_rates() {
        insta::assert_snapshot!(drawn(&busy(), 100, 16));
    }

    #[test]
    fn any_size_will_do() {
        for (width, height) in [(1, 1), (20, 5), (80, 10), (300, 100)] {
            drawn(&screen(), width, height);
            drawn(&busy(), width, height);
        }
    }

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!(bar(0.0, 10.0, 16), "");
        assert_eq!(bar(5.0, 10.0, 0), "");
        assert_eq!(bar(0.001, 10.0, 16), "▏");
        assert_eq!(bar(5.0, 10.0, 16), "████████");
        assert_eq!(bar(10.0, 10.0, 16), "█".repeat(16));
    }
}
