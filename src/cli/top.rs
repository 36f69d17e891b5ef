//! `ringmq top`: what is going on in a broker, live in the terminal. Where there is none, one
//! frame.

mod frame;
mod metrics;
mod sample;

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};

use super::connection::{self, Outcome, Session, Target};
use super::failure::Failure;
use super::output::Output;
use super::parse;
use crate::rt;

use frame::{Frame, View};
use sample::Sample;

/// How often keys are looked for while nothing else happens.
const PERIOD: Duration = Duration::from_millis(50);

/// How long a management service that did not answer is left alone.
const REST: Duration = Duration::from_secs(15);

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct TopArgs {
    /// By what channels are sorted; in the view by the keys i, o, b, w and n
    #[arg(long, value_enum, default_value_t = Sort::Rate)]
    sort: Sort,
    /// How long a frame stays
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse::duration)]
    interval: Duration,
    /// Only channels whose names hold this text
    #[arg(long, default_value = "", hide_default_value = true)]
    search: String,
    /// How many channels, where no terminal says how many there is room for
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
}

/// By what channels are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Messages a second, in both directions
    Rate,
    /// Messages a second, in
    In,
    /// Messages a second, out
    Out,
    /// Bytes a second, in both directions
    Bytes,
    /// Waiting messages
    Waiting,
    /// Names
    Name,
}

/// Shows frames until the user has enough.
pub(super) fn run(target: Target, output: Output, args: &TopArgs) -> Outcome {
    let live = output.is_terminal() && !output.is_json();
    let (tx, samples) = mpsc::channel();
    let interval = args.interval.max(Duration::from_millis(100));
    let search = args.search.clone();
    let outcome = connection::start(target, output, move |session| async move {
        take_samples(&session, &search, interval, &tx).await
    });
    if live {
        watch(args, output, &samples, &outcome)
    } else {
        once(args, output, &samples, &outcome)
    }
}

/// Takes samples as long as somebody looks at them.
async fn take_samples(
    session: &Session,
    search: &str,
    interval: Duration,
    samples: &mpsc::Sender<Sample>,
) -> Outcome {
    let mut due = rt::now();
    // A management service that does not answer may hold up a frame, but not each of them.
    let mut ask_again = rt::now();
    loop {
        let ask = rt::now() >= ask_again;
        let sample = Sample::take(session, search, ask).await?;
        if ask && sample.metrics.is_none() {
            ask_again = rt::now().after(REST);
        }
        if samples.send(sample).is_err() {
            return Ok(());
        }
        due = due.after(interval).max(rt::now());
        rt::sleep_until(due).await;
    }
}

/// Why no more samples come.
fn ended(outcome: &mpsc::Receiver<Outcome>) -> Failure {
    match outcome.recv() {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) | Err(_) => Failure::Lost("no more samples come".to_owned()),
    }
}

/// One frame, of two samples: rates need a before.
fn once(
    args: &TopArgs,
    output: Output,
    samples: &mpsc::Receiver<Sample>,
    outcome: &mpsc::Receiver<Outcome>,
) -> Outcome {
    let next = || samples.recv().map_err(|_| ended(outcome));
    let (before, now) = (next()?, next()?);
    let frame = Frame::of(&before, &now, args.sort);
    if output.is_json() {
        return output.json(&frame.limited(args.rows));
    }
    let view = View {
        rows: args.rows,
        columns: None,
        output,
    };
    output.text(&frame.text(view))
}

/// What a key asks for.
enum Wish {
    Quit,
    Sort(Sort),
    Redraw,
}

fn watch(
    args: &TopArgs,
    output: Output,
    samples: &mpsc::Receiver<Sample>,
    outcome: &mpsc::Receiver<Outcome>,
) -> Outcome {
    let _restored_at_the_end = Screen::enter()?;
    let (mut before, mut now): (Option<Sample>, Option<Sample>) = (None, None);
    let mut sort = args.sort;
    loop {
        let mut changed = false;
        match samples.recv_timeout(PERIOD) {
            Ok(sample) => {
                before = now.replace(sample);
                changed = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(ended(outcome)),
        }
        match wish()? {
            Some(Wish::Quit) => return Ok(()),
            Some(Wish::Sort(by)) => {
                sort = by;
                changed = true;
            }
            Some(Wish::Redraw) => changed = true,
            None => {}
        }
        if let (true, Some(now)) = (changed, &now) {
            let frame = Frame::of(before.as_ref().unwrap_or(now), now, sort);
            draw(&frame, output)?;
        }
    }
}

/// The next key that means something, if one was pressed.
fn wish() -> io::Result<Option<Wish>> {
    while event::poll(Duration::ZERO)? {
        let key = match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            Event::Resize(..) => return Ok(Some(Wish::Redraw)),
            _ => continue,
        };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        return Ok(Some(match key.code {
            KeyCode::Char('c' | 'd') if control => Wish::Quit,
            KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
            KeyCode::Char('r') => Wish::Sort(Sort::Rate),
            KeyCode::Char('i') => Wish::Sort(Sort::In),
            KeyCode::Char('o') => Wish::Sort(Sort::Out),
            KeyCode::Char('b') => Wish::Sort(Sort::Bytes),
            KeyCode::Char('w') => Wish::Sort(Sort::Waiting),
            KeyCode::Char('n') => Wish::Sort(Sort::Name),
            _ => continue,
        }));
    }
    Ok(None)
}

fn draw(frame: &Frame<'_>, output: Output) -> io::Result<()> {
    let (columns, lines) = terminal::size()?;
    let view = View {
        rows: usize::from(lines),
        columns: Some(columns),
        output,
    };
    let text = frame.text(view);
    let mut out = io::stdout().lock();
    queue!(out, MoveTo(0, 0), Clear(ClearType::All))?;
    for (line, text) in text.lines().take(usize::from(lines)).enumerate() {
        queue!(out, MoveTo(0, u16::try_from(line).unwrap_or(u16::MAX)))?;
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// The terminal while it is ours; given back when dropped, also in a panic.
#[derive(Debug)]
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _the_terminal_is_gone = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _the_terminal_is_gone = terminal::disable_raw_mode();
    }
}
