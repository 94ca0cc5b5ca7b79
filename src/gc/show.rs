//! What the person sees while a run is under way: one line on a terminal, elsewhere a line for each
//! phase and one now and then.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use niks3_core::wire::{CollectPhase, Collection};

use super::statistics;
use crate::push::Style;

/// Between two plain lines of one phase.
const PLAIN_PAUSE: Duration = Duration::from_secs(10);

/// Shows how a run comes along, on standard error.
pub struct Show {
    style: Style,
    bar: Option<ProgressBar>,
    number: Option<u64>,
    /// What the last plain line said, and when.
    last: Option<(u64, CollectPhase, Instant)>,
}

impl Show {
    /// Nothing is shown before there is a run.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let bars =
            matches!(style, Style::Normal | Style::Verbose) && std::io::stderr().is_terminal();
        let bar = bars.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { style, bar, number: None, last: None }
    }

    /// The number of the run that is followed, once there is one.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    pub(super) fn started(&mut self, run: &Collection) {
        self.progress(run);
    }

    pub(super) fn progress(&mut self, run: &Collection) {
        self.number = Some(run.number);
        let text = statistics::line(run);
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        } else if self.is_due(run, Instant::now()) {
            self.line(&text);
        }
    }

    /// Whether a plain line says something new.
    fn is_due(&mut self, run: &Collection, now: Instant) -> bool {
        let (number, phase) = (run.number, run.progress.phase);
        let due = self.last.is_none_or(|(last_number, last_phase, when)| {
            (last_number, last_phase) != (number, phase) || now >= when + PLAIN_PAUSE
        });
        if due {
            self.last = Some((number, phase, now));
        }
        due
    }

    /// Something that the person should know and that stops nothing. In JSON too: a program reads the
    /// other output.
    pub fn warn(&self, text: &str) {
        if self.style == Style::Json {
            eprintln!("warning: {text}");
        }
        self.line(&format!("warning: {text}"));
    }

    /// A line for people.
    pub fn line(&self, text: &str) {
        match &self.bar {
            _ if matches!(self.style, Style::Quiet | Style::Json) => {}
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// The line on the terminal goes.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_comes_with_each_phase_and_now_and_then() {
        let mut run: Collection = serde_json::from_str(
            r#"{"number": 1, "parameters": {"older_than": 0, "failed_uploads_older_than": 0},
                "started_at": 1, "state": "running", "progress": {}}"#,
        )
        .unwrap();
        let mut show = Show::new(Style::Quiet);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert!(show.is_due(&run, now) && !show.is_due(&run, now + second));
        run.progress.phase = CollectPhase::Delete;
        assert!(show.is_due(&run, now + second) && !show.is_due(&run, now + 2 * second));
        assert!(show.is_due(&run, now + second + PLAIN_PAUSE));
        run.number = 2;
        assert!(show.is_due(&run, now + second + PLAIN_PAUSE));
    }
}
