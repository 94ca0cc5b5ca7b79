//! What the person, or the program, sees meanwhile: bars on a terminal, a plain line now and then
//! elsewhere, events as JSON, or nothing.

mod bars;
mod text;

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use niks3_core::wire::CommitProgress;
use serde_json::{Value, json};

use self::bars::Bars;
use super::{Pushed, plan::Work};

pub use text::{human_bytes, plural};

/// Between two plain lines.
const PLAIN_PAUSE: Duration = Duration::from_secs(10);

/// How much is to be seen. `--quiet`, `--verbose`, `--json`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Bars on a terminal, plain lines elsewhere.
    #[default]
    Normal,
    /// The same, and a line for each NAR.
    Verbose,
    /// Nothing but errors.
    Quiet,
    /// One JSON object a line on standard output, warnings and errors too.
    Json,
}

/// Counts what is done and shows it.
pub struct Progress {
    style: Style,
    bars: Option<Bars>,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    last_line: Instant,
    nars: u64,
    nar_bytes: u64,
    done_nars: u64,
    done_nar_bytes: u64,
    sent_bytes: u64,
}

impl Progress {
    /// Nothing is shown before there is something to do.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let now = Instant::now();
        let bars =
            matches!(style, Style::Normal | Style::Verbose) && std::io::stderr().is_terminal();
        let state = State {
            started: now,
            last_line: now,
            nars: 0,
            nar_bytes: 0,
            done_nars: 0,
            done_nar_bytes: 0,
            sent_bytes: 0,
        };
        Self { style, bars: bars.then(Bars::new), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers to show: half an update does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event for programs.
    fn event(&self, event: &Value) {
        if self.style == Style::Json {
            // Whoever closed the pipe does not want to know; the push goes on.
            let _ = writeln!(std::io::stdout().lock(), "{event}");
        }
    }

    /// A line for people.
    fn line(&self, text: &str) {
        match &self.bars {
            _ if matches!(self.style, Style::Quiet | Style::Json) => {}
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    pub(super) fn start(&self, paths: usize, work: &[Work]) {
        let nars = work.iter().filter(|work| work.send_nar).count() as u64;
        let bytes: u64 = work.iter().filter(|work| work.send_nar).map(|work| work.nar_size).sum();
        {
            let mut state = self.state();
            state.nars += nars;
            state.nar_bytes += bytes;
        }
        self.event(&json!({"event": "plan", "paths": paths, "nars": nars, "nar_bytes": bytes}));
        if nars == 0 {
            return;
        }
        match &self.bars {
            Some(bars) => bars.start(bytes),
            None => {
                let nars = plural(nars as usize, "NAR");
                self.line(&format!("sending {nars}, {} before compression", human_bytes(bytes)));
            }
        }
    }

    /// A NAR is being packed and sent.
    pub(super) fn begin(&self, work: &Work) -> InFlight<'_> {
        let (path, nar_size) = (work.path.to_string(), work.nar_size);
        if let Some(bars) = &self.bars {
            bars.begin(&path, nar_size);
        }
        InFlight { progress: self, path, nar_size, told: std::sync::atomic::AtomicU64::new(0) }
    }

    fn advance(&self, nar_bytes: u64) {
        self.state().done_nar_bytes += nar_bytes;
        if let Some(bars) = &self.bars {
            bars.advance(nar_bytes);
        }
    }

    fn nar_done(&self, path: &str, nar_size: u64, bytes: Option<u64>) {
        let (text, due) = {
            let mut state = self.state();
            state.done_nars += 1;
            state.sent_bytes += bytes.unwrap_or(0);
            let due = state.last_line.elapsed() >= PLAIN_PAUSE;
            if due {
                state.last_line = Instant::now();
            }
            (state.summary(), due)
        };
        let sent = json!({"event": "sent", "path": path, "nar_bytes": nar_size, "bytes": bytes});
        self.event(&sent);
        if self.style == Style::Verbose {
            self.line(&match bytes {
                Some(bytes) => {
                    format!("sent {path}: {} as {}", human_bytes(nar_size), human_bytes(bytes))
                }
                None => format!("{path} was sent by another push"),
            });
        }
        match &self.bars {
            Some(bars) => bars.end(path, &text),
            None if due => self.line(&text),
            None => {}
        }
    }

    pub(super) fn publishing(&self, progress: CommitProgress) {
        let CommitProgress { published, total } = progress;
        self.event(&json!({"event": "publishing", "published": published, "total": total}));
        let text = format!("{published} of {total} narinfos published");
        match &self.bars {
            Some(bars) => bars.message(text),
            None => self.line(&text),
        }
    }

    /// The bars go; lines stay.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.clear();
        }
    }

    /// Something that the person should know and that stops nothing.
    pub fn warn(&self, text: &str) {
        self.event(&json!({"event": "warning", "message": text}));
        self.line(&format!("warning: {text}"));
    }

    /// Something that the person may want to know.
    pub fn note(&self, text: &str) {
        self.event(&json!({"event": "note", "message": text}));
        self.line(text);
    }

    /// The last word of a push that succeeded.
    pub fn done(&self, pushed: &Pushed, requests: u64, calls: u64) {
        self.event(&json!({
            "event": "done",
            "paths": pushed.paths,
            "nars": pushed.nars,
            "nar_bytes": pushed.nar_bytes,
            "bytes": pushed.bytes,
            "requests": requests,
            "calls": calls,
            "took_ms": pushed.took.as_millis() as u64,
        }));
        let (paths, took) = (plural(pushed.paths, "path"), pushed.took.as_secs_f64());
        self.line(&if pushed.nars == 0 {
            format!("{paths} in the cache, nothing to send ({took:.1} s)")
        } else {
            let (nars, bytes) = (plural(pushed.nars, "NAR"), human_bytes(pushed.bytes));
            format!("{paths} in the cache, {nars} of {bytes} sent ({took:.1} s)")
        });
    }

    /// What a dry run found: the NARs that would be sent, the largest first.
    pub(super) fn would_send(&self, paths: usize, work: &[Work]) {
        let nars: Vec<&Work> = work.iter().filter(|work| work.send_nar).collect();
        let bytes: u64 = nars.iter().map(|work| work.nar_size).sum();
        for work in &nars {
            let path = work.path.to_string();
            self.event(&json!({"event": "would-send", "path": path, "nar_bytes": work.nar_size}));
            self.line(&format!("{:>10}  {path}", human_bytes(work.nar_size)));
        }
        self.event(&json!({
            "event": "dry-run", "paths": paths, "nars": nars.len(), "nar_bytes": bytes,
        }));
        self.line(&format!(
            "would send {} of {}, {} before compression",
            plural(nars.len(), "NAR"),
            plural(paths, "path"),
            human_bytes(bytes)
        ));
    }
}

impl State {
    fn summary(&self) -> String {
        let elapsed = self.started.elapsed().as_secs_f64().max(0.1);
        let rate = human_bytes((self.sent_bytes as f64 / elapsed) as u64);
        let (done, total) = (self.done_nars, self.nars);
        format!("{done} of {total} NARs, {} sent, {rate}/s", human_bytes(self.sent_bytes))
    }
}

/// A NAR on its way. What of it has been told to the progress is made up at its end.
pub(super) struct InFlight<'a> {
    progress: &'a Progress,
    path: String,
    nar_size: u64,
    told: std::sync::atomic::AtomicU64,
}

impl InFlight<'_> {
    /// A part that has so much of the NAR in it was sent. Parts that are sent again, for another
    /// multipart upload, do not count twice.
    pub(super) fn part(&self, nar_bytes: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let before = self.told.fetch_add(nar_bytes, Relaxed);
        self.progress.advance(nar_bytes.min(self.nar_size.saturating_sub(before)));
    }

    /// All of it was sent, as so many bytes.
    pub(super) fn sent(self, bytes: u64) {
        self.end(Some(bytes));
    }

    /// Another push has sent it meanwhile.
    pub(super) fn was_there(self) {
        self.end(None);
    }

    fn end(self, bytes: Option<u64>) {
        let told = self.told.load(std::sync::atomic::Ordering::Relaxed);
        self.progress.advance(self.nar_size.saturating_sub(told));
        self.progress.nar_done(&self.path, self.nar_size, bytes);
    }
}
