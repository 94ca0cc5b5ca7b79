//! What the person, or the program, sees meanwhile: bars on a terminal, a plain line now and then
//! elsewhere, events as JSON, or nothing.

mod bars;

use std::{
    collections::HashSet,
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use niks3_core::{
    hash::NarHash,
    store_path::StorePath,
    wire::{CommitProgress, Pin},
};
use serde_json::{Value, json};

use self::bars::Bars;
use super::plan::{LogWork, Work};
use crate::text::{human_bytes, plural};

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

/// Of all batches together.
struct State {
    /// When there was something to send for the first time.
    started: Option<Instant>,
    last_line: Instant,
    /// NARs that are to be sent, and their bytes before compression.
    nars: usize,
    nar_bytes: u64,
    /// How much of that is done.
    done_nars: usize,
    done_nar_bytes: u64,
    /// NARs that were sent, not by another push, their bytes before compression and as sent.
    sent_nars: usize,
    sent_nar_bytes: u64,
    sent_bytes: u64,
    /// Build logs that were sent.
    sent_logs: usize,
    /// What a dry run has named: batches share contents, and derivations have several outputs.
    named: HashSet<NarHash>,
    named_logs: HashSet<StorePath>,
}

impl Progress {
    /// Nothing is shown before there is something to do.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let now = Instant::now();
        let bars =
            matches!(style, Style::Normal | Style::Verbose) && std::io::stderr().is_terminal();
        let state = State {
            started: None,
            last_line: now,
            nars: 0,
            nar_bytes: 0,
            done_nars: 0,
            done_nar_bytes: 0,
            sent_nars: 0,
            sent_nar_bytes: 0,
            sent_bytes: 0,
            sent_logs: 0,
            named: HashSet::new(),
            named_logs: HashSet::new(),
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

    pub(super) fn start(&self, paths: usize, work: &[Work], logs: usize) {
        let nars = work.iter().filter(|work| work.send_nar).count();
        let bytes: u64 = work.iter().filter(|work| work.send_nar).map(|work| work.nar_size).sum();
        {
            let mut state = self.state();
            let now = Instant::now();
            state.started.get_or_insert(now);
            state.last_line = now;
            state.nars += nars;
            state.nar_bytes += bytes;
        }
        self.event(&json!({
            "event": "plan", "paths": paths, "nars": nars, "nar_bytes": bytes, "logs": logs,
        }));
        match &self.bars {
            Some(bars) => bars.start(bytes),
            None if nars > 0 => {
                let nars = plural(nars, "NAR");
                self.line(&format!("sending {nars}, {} before compression", human_bytes(bytes)));
            }
            None => {}
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
        let due = {
            let mut state = self.state();
            state.done_nar_bytes += nar_bytes;
            let due = state.last_line.elapsed() >= PLAIN_PAUSE;
            if due {
                state.last_line = Instant::now();
            }
            due.then(|| (state.summary(), state.done_nars, state.done_nar_bytes))
        };
        if let Some(bars) = &self.bars {
            bars.advance(nar_bytes);
        }
        if let Some((text, nars, bytes)) = due {
            self.event(&json!({"event": "progress", "nars": nars, "nar_bytes": bytes}));
            if self.bars.is_none() {
                self.line(&text);
            }
        }
    }

    /// `bytes`: as so many it was sent. `None`: another push has sent it.
    fn nar_done(&self, path: &str, nar_size: u64, bytes: Option<u64>) {
        let text = {
            let mut state = self.state();
            state.done_nars += 1;
            if let Some(bytes) = bytes {
                state.sent_nars += 1;
                state.sent_nar_bytes += nar_size;
                state.sent_bytes += bytes;
            }
            format!("{} of {} NARs", state.done_nars, state.nars)
        };
        let (event, line) = match bytes {
            Some(bytes) => (
                json!({"event": "sent", "path": path, "nar_bytes": nar_size, "bytes": bytes}),
                format!("sent {path}: {} as {}", human_bytes(nar_size), human_bytes(bytes)),
            ),
            None => (
                json!({"event": "adopted", "path": path, "nar_bytes": nar_size}),
                format!("{path} was sent by another push"),
            ),
        };
        self.event(&event);
        if self.style == Style::Verbose {
            self.line(&line);
        }
        if let Some(bars) = &self.bars {
            bars.end(path, &text);
        }
    }

    /// A build log was sent.
    pub(super) fn log_sent(&self) {
        self.state().sent_logs += 1;
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

    /// The closure is kept from expiring.
    pub fn pinned(&self, pin: &Pin) {
        let (name, path) = (pin.name.to_string(), pin.path.to_string());
        self.event(&json!({"event": "pinned", "name": name, "path": path}));
        self.line(&format!("pinned {path} as {name}"));
    }

    /// The last word of pushes that succeeded.
    pub fn done(&self, pushed: &Pushed) {
        let (nars, nar_bytes, bytes, logs) = {
            let state = self.state();
            (state.sent_nars, state.sent_nar_bytes, state.sent_bytes, state.sent_logs)
        };
        self.event(&json!({
            "event": "done",
            "paths": pushed.paths,
            "nars": nars,
            "nar_bytes": nar_bytes,
            "bytes": bytes,
            "logs": logs,
            "requests": pushed.requests,
            "calls": pushed.calls,
            "took_ms": pushed.took.as_millis() as u64,
        }));
        let (paths, took) = (plural(pushed.paths, "path"), pushed.took.as_secs_f64());
        let sent_nars = format!("{} of {}", plural(nars, "NAR"), human_bytes(bytes));
        let sent_logs = plural(logs, "build log");
        let sent = match (nars, logs) {
            (0, 0) => "nothing to send".to_owned(),
            (_, 0) => format!("{sent_nars} sent"),
            (0, _) => format!("{sent_logs} sent"),
            (_, _) => format!("{sent_nars} and {sent_logs} sent"),
        };
        self.line(&format!("{paths} in the cache, {sent} ({took:.1} s)"));
    }

    /// What a dry run would send: NARs, the largest first, and build logs, which are only counted.
    pub(super) fn would_send(&self, work: &[Work], logs: &[LogWork]) {
        let derivations = logs.iter().map(|log| log.derivation.clone());
        self.state().named_logs.extend(derivations);
        for work in work.iter().filter(|work| work.send_nar) {
            {
                let mut state = self.state();
                if !state.named.insert(work.nar_hash) {
                    continue;
                }
                state.nar_bytes += work.nar_size;
            }
            let path = work.path.to_string();
            self.event(&json!({"event": "would-send", "path": path, "nar_bytes": work.nar_size}));
            self.line(&format!("{:>10}  {path}", human_bytes(work.nar_size)));
        }
    }

    /// The last word of a dry run.
    pub fn dry_run_done(&self, pushed: &Pushed) {
        let (nars, bytes, logs) = {
            let state = self.state();
            (state.named.len(), state.nar_bytes, state.named_logs.len())
        };
        let paths = pushed.paths;
        self.event(&json!({
            "event": "dry-run", "paths": paths, "nars": nars, "nar_bytes": bytes, "logs": logs,
        }));
        let mut line = format!(
            "would send {} of {}, {} before compression",
            plural(nars, "NAR"),
            plural(paths, "path"),
            human_bytes(bytes)
        );
        if logs > 0 {
            line.push_str(&format!(", and {}", plural(logs, "build log")));
        }
        self.line(&line);
    }
}

/// What a command did, beside what its progress has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Paths in all closures together.
    pub paths: usize,
    /// Requests to S3.
    pub requests: u64,
    /// Calls of the server.
    pub calls: u64,
    /// How long it took.
    pub took: Duration,
}

impl State {
    fn summary(&self) -> String {
        let elapsed = self.started.map_or(0.1, |started| started.elapsed().as_secs_f64().max(0.1));
        let rate = human_bytes((self.done_nar_bytes as f64 / elapsed) as u64);
        let (done, all) = (human_bytes(self.done_nar_bytes), human_bytes(self.nar_bytes));
        format!("{} of {} NARs, {done} of {all}, {rate}/s", self.done_nars, self.nars)
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
