//! Bars on a terminal: all bytes, and below them the largest NARs that are on their way.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::human_bytes;

/// NARs that are named while they are on their way.
const NAMED: usize = 3;

pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    named: Vec<ProgressBar>,
    /// Size and path of each NAR on its way.
    in_flight: Mutex<BTreeSet<(u64, String)>>,
}

impl Bars {
    /// Hidden until there is something to do.
    pub(super) fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let total = all.add(ProgressBar::new(0));
        let template = "{spinner} {bar:24} {decimal_bytes}/{decimal_total_bytes} \
                        {decimal_bytes_per_sec}, {eta} left; {msg}";
        total.set_style(style(template));
        let named = (0..NAMED).map(|_| {
            let line = all.add(ProgressBar::new_spinner());
            line.set_style(style("  {msg}"));
            line
        });
        let named = named.collect();
        Self { all, total, named, in_flight: Mutex::default() }
    }

    pub(super) fn start(&self, bytes: u64) {
        self.total.inc_length(bytes);
        self.total.reset_eta();
        self.all.set_draw_target(ProgressDrawTarget::stderr());
        self.total.enable_steady_tick(Duration::from_millis(200));
    }

    pub(super) fn begin(&self, path: &str, nar_size: u64) {
        self.in_flight().insert((nar_size, path.to_owned()));
        self.name_largest();
    }

    pub(super) fn advance(&self, nar_bytes: u64) {
        self.total.inc(nar_bytes);
    }

    pub(super) fn end(&self, path: &str, text: &str) {
        self.in_flight().retain(|(_, named)| named != path);
        self.total.set_message(text.to_owned());
        self.name_largest();
    }

    pub(super) fn message(&self, text: String) {
        self.total.set_message(text);
    }

    pub(super) fn suspend(&self, print: impl FnOnce()) {
        self.all.suspend(print);
    }

    pub(super) fn clear(&self) {
        self.total.disable_steady_tick();
        // Nothing to be done about a terminal that is gone.
        let _ = self.all.clear();
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn name_largest(&self) {
        let in_flight = self.in_flight();
        let mut largest = in_flight.iter().rev();
        for line in &self.named {
            line.set_message(match largest.next() {
                Some((bytes, path)) => format!("{:>9} {path}", human_bytes(*bytes)),
                None => String::new(),
            });
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, BTreeSet<(u64, String)>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The templates are literals: a test tries them.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_on_their_way_are_named() {
        let bars = Bars::new();
        for (path, bytes) in [("a", 1), ("b", 20), ("c", 3), ("d", 4)] {
            bars.begin(path, bytes);
        }
        let shown = |bars: &Bars| -> Vec<String> {
            bars.named.iter().map(|line| line.message().trim().to_owned()).collect()
        };
        assert_eq!(shown(&bars), ["20 B b", "4 B d", "3 B c"]);
        bars.end("b", "1 of 4 NARs");
        assert_eq!(shown(&bars), ["4 B d", "3 B c", "1 B a"]);
    }
}
