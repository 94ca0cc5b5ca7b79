//! What the person sees meanwhile: a line that moves on a terminal, a plain line now and then
//! elsewhere.

use std::{
    io::IsTerminal as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use niks3_core::wire::CommitProgress;

use super::plan::Work;

/// Between two plain lines.
const PLAIN_PAUSE: Duration = Duration::from_secs(10);

/// Counts what is done and shows it on standard error.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    total: AtomicU64,
    done: AtomicU64,
    sent: AtomicU64,
    plain: Mutex<Plain>,
}

struct Plain {
    started: Instant,
    last: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing is shown before there is something to do.
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let now = Instant::now();
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            terminal,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            plain: Mutex::new(Plain { started: now, last: now }),
        }
    }

    pub(super) fn start(&self, work: &[Work]) {
        let nars = work.iter().filter(|work| work.send_nar).count() as u64;
        let bytes: u64 = work.iter().filter(|work| work.send_nar).map(|work| work.nar_size).sum();
        self.total.store(nars, Ordering::Relaxed);
        if nars == 0 {
            return;
        }
        if self.terminal {
            let style = "{spinner} {pos}/{len} NARs, {msg} [{elapsed}] {bar:24}";
            // The template is a literal: it was tried.
            if let Ok(style) = ProgressStyle::with_template(style) {
                self.bar.set_style(style);
            }
            self.bar.set_length(nars);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            let nars = plural(nars as usize, "NAR");
            eprintln!("sending {nars}, {} before compression", human_bytes(bytes));
        }
    }

    pub(super) fn sent_nar(&self, bytes: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.load(Ordering::Relaxed);
        if self.terminal {
            let elapsed = self.bar.elapsed().as_secs_f64().max(0.1);
            let rate = human_bytes((sent as f64 / elapsed) as u64);
            self.bar.set_message(format!("{} sent, {rate}/s", human_bytes(sent)));
            self.bar.set_position(done);
            return;
        }
        let Ok(mut plain) = self.plain.lock() else { return };
        if plain.last.elapsed() >= PLAIN_PAUSE {
            plain.last = Instant::now();
            let rate = sent as f64 / plain.started.elapsed().as_secs_f64();
            let rate = human_bytes(rate as u64);
            eprintln!("{done} of {total} NARs, {} sent, {rate}/s", human_bytes(sent));
        }
    }

    pub(super) fn publishing(&self, progress: CommitProgress) {
        let CommitProgress { published, total } = progress;
        if self.terminal {
            self.bar.set_message(format!("{published} of {total} narinfos published"));
        } else {
            eprintln!("{published} of {total} narinfos published");
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Something that the person should know and that stops nothing.
    pub fn warn(&self, text: &str) {
        self.bar.suspend(|| eprintln!("warning: {text}"));
    }
}

/// `1 path`, `2 paths`.
#[must_use]
pub fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Bytes as people read them: `1.5 MB`, powers of ten.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 and more would print as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_powers_of_ten() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_999, "1.0 MB"),
            (1_540_000, "1.5 MB"),
            (3_000_000_000, "3.0 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
