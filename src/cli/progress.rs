//! Shows progress on stderr: a bar on a terminal, plain lines elsewhere, nothing for work that is
//! done within a second.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::format_bytes;
use crate::{service::progress::Progress, telemetry::stderr::write_line};

const QUIET_FOR: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress on a terminal, or in a log.
pub(super) struct TerminalProgress {
    terminal: bool,
    current: Mutex<Option<CurrentProgress>>,
}

struct CurrentProgress {
    what: String,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl TerminalProgress {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            current: Mutex::new(None),
        }
    }

    fn with_current(&self, act: impl FnOnce(&mut Option<CurrentProgress>)) {
        act(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for TerminalProgress {
    fn begin_task(&self, what: &str, total: Option<u64>) {
        let now = Instant::now();
        self.with_current(|current| {
            *current = Some(CurrentProgress {
                what: what.into(),
                total,
                done: 0,
                begun: now,
                said: now,
                bar: None,
            });
        });
    }

    fn advance_bytes(&self, bytes: u64) {
        self.with_current(|current| {
            let Some(current) = current else { return };
            current.done += bytes;
            if current.begun.elapsed() < QUIET_FOR {
                return;
            }
            if self.terminal {
                current.draw_bar();
            } else {
                current.print_progress();
            }
        });
    }

    fn end_task(&self) {
        self.with_current(|current| {
            let Some(ended) = current.take() else { return };
            if let Some(bar) = ended.bar {
                bar.finish_and_clear();
            } else if ended.said > ended.begun {
                write_line(format_args!(
                    "{}: done, {} in {:.1} s",
                    ended.what,
                    format_bytes(ended.done),
                    ended.begun.elapsed().as_secs_f64()
                ));
            }
        });
    }
}

impl CurrentProgress {
    fn draw_bar(&mut self) {
        let bar = self
            .bar
            .get_or_insert_with(|| new_progress_bar(&self.what, self.total));
        bar.set_position(self.done);
    }

    fn print_progress(&mut self) {
        let first = self.said == self.begun;
        if !first && self.said.elapsed() < LINE_EVERY {
            return;
        }
        self.said = Instant::now();
        match self.total {
            Some(total) => write_line(format_args!(
                "{}: {} of {}",
                self.what,
                format_bytes(self.done),
                format_bytes(total)
            )),
            None => write_line(format_args!("{}: {}", self.what, format_bytes(self.done))),
        }
    }
}

fn new_progress_bar(what: &str, total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    #[allow(
        clippy::literal_string_with_formatting_args,
        reason = "the progress bar's own template language"
    )]
    let template = if total.is_some() {
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{spinner} {msg} {bytes}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
