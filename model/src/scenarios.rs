//! The scenarios. What bounds each is written here: its paths, its pushes, each of which is opened at most
//! once, and how many collectors. Nothing else is bounded: steps repeat as often as they can.
//!
//! Pushes that are `earlier` are committed before the model begins, and leave a closure.

use crate::{
    scenario::{Contents, Planned, Push, Scenario},
    set::{Set, Slot},
};

const A: Slot = 0;

fn path(path: Slot, contents: Option<Contents>, references: &[Slot]) -> Planned {
    let references: Set = references.iter().copied().collect();
    Planned { path, contents, references, realised: false }
}

fn push(paths: Vec<Planned>) -> Push {
    Push { paths, earlier: false }
}

fn earlier(paths: Vec<Planned>) -> Push {
    Push { paths, earlier: true }
}

/// Two overlapping closures, A → C and B → C, are pushed into an empty cache, and collected. C has a NAR,
/// of which each push may have its own. Deletes are answered.
#[must_use]
pub fn overlapping() -> Scenario {
    const B: Slot = 1;
    const C: Slot = 2;
    let c = || path(C, Some(1), &[]);
    let a = push(vec![c(), path(A, None, &[C])]);
    let b = push(vec![c(), path(B, None, &[C])]);
    Scenario::new("two overlapping closures", &["A", "B", "C"], vec![a, b])
}

/// A → C is there, C with a NAR. B → C is pushed while A expires and is swept, with lost answers.
#[must_use]
pub fn joining() -> Scenario {
    const B: Slot = 1;
    const C: Slot = 2;
    let c = || path(C, Some(1), &[]);
    let a = earlier(vec![c(), path(A, None, &[C])]);
    let b = push(vec![c(), path(B, None, &[C])]);
    let mut scenario =
        Scenario::new("a closure joins another that goes", &["A", "B", "C"], vec![a, b]);
    scenario.lost_deletes = true;
    scenario
}

/// A → C is there, C with a NAR. It is pushed again while it expires and is swept, with lost answers and slow
/// calls.
#[must_use]
pub fn again() -> Scenario {
    const C: Slot = 1;
    let closure = || vec![path(C, Some(1), &[]), path(A, None, &[C])];
    let pushes = vec![earlier(closure()), push(closure())];
    let mut scenario = Scenario::new("an expired closure pushed again", &["A", "C"], pushes);
    scenario.lost_deletes = true;
    scenario.slow_calls = true;
    scenario
}

/// A is pushed from two machines into an empty cache: with other contents, and with a reference to C by one
/// of them only. With lost answers.
#[must_use]
pub fn other_contents() -> Scenario {
    const C: Slot = 1;
    let one = push(vec![path(C, None, &[]), path(A, Some(1), &[C])]);
    let other = push(vec![path(A, Some(2), &[])]);
    let mut scenario = Scenario::new("one path, other contents", &["A", "C"], vec![one, other]);
    scenario.lost_deletes = true;
    scenario
}

/// The same with a reference of each that the other has not. Deletes are answered. For the long run.
#[must_use]
pub fn other_references() -> Scenario {
    const C: Slot = 1;
    const D: Slot = 2;
    let one = push(vec![path(C, None, &[]), path(A, Some(1), &[C])]);
    let other = push(vec![path(D, None, &[]), path(A, Some(2), &[D])]);
    Scenario::new("one path, other references", &["A", "C", "D"], vec![one, other])
}

/// `pushes` pushes of the same path and contents into an empty cache give up while their bodies are on the
/// way. With lost answers and slow calls.
#[must_use]
pub fn late_bodies(pushes: usize) -> Scenario {
    let pushes = (0..pushes).map(|_| push(vec![path(A, Some(1), &[])])).collect();
    let mut scenario = Scenario::new("bodies after giving up", &["A"], pushes);
    scenario.lost_deletes = true;
    scenario.slow_calls = true;
    scenario
}

/// A → C is there, and is pushed again twice, while one of two collectors is paused, with lost answers.
#[must_use]
pub fn paused() -> Scenario {
    const C: Slot = 1;
    let closure = || vec![path(C, None, &[]), path(A, None, &[C])];
    let pushes = vec![earlier(closure()), push(closure()), push(closure())];
    let mut scenario = Scenario::new("a paused collector", &["A", "C"], pushes);
    scenario.lost_deletes = true;
    scenario.collectors = 2;
    scenario
}

/// Two builds of one derivation gave the paths A and B: one key for their realisations, which names the one
/// or the other. A is there with it, both are pushed. With lost answers and slow calls.
#[must_use]
pub fn realisations() -> Scenario {
    const B: Slot = 1;
    let realised = |slot| vec![Planned { realised: true, ..path(slot, None, &[]) }];
    let pushes = vec![earlier(realised(A)), push(realised(B)), push(realised(A))];
    let mut scenario = Scenario::new("realisations", &["A", "B"], pushes);
    scenario.lost_deletes = true;
    scenario.slow_calls = true;
    scenario
}

/// A → C is there. It and B → C are pushed while it is swept, with lost answers, and every plan and release
/// is a transaction for each path.
#[must_use]
pub fn piecemeal() -> Scenario {
    const B: Slot = 1;
    const C: Slot = 2;
    let a = || vec![path(C, None, &[]), path(A, None, &[C])];
    let b = vec![path(C, None, &[]), path(B, None, &[C])];
    let pushes = vec![earlier(a()), push(a()), push(b)];
    let mut scenario = Scenario::new("path by path", &["A", "B", "C"], pushes);
    scenario.piecemeal = true;
    scenario.lost_deletes = true;
    scenario
}

/// Everything at once: too large to be looked at exhaustively, for random walks. A → C is there. It is pushed
/// again with other contents of C and a realisation, B → C is pushed too, path by path, one of two collectors
/// is paused, answers are lost, and calls are slow.
#[must_use]
pub fn everything() -> Scenario {
    const B: Slot = 1;
    const C: Slot = 2;
    let c = |contents| path(C, Some(contents), &[]);
    let realised = |path| Planned { realised: true, ..path };
    let pushes = vec![
        earlier(vec![c(1), realised(path(A, None, &[C]))]),
        push(vec![c(2), path(A, None, &[C])]),
        push(vec![c(1), realised(path(B, None, &[C]))]),
        push(vec![c(1), realised(path(A, None, &[C]))]),
    ];
    let mut scenario = Scenario::new("everything at once", &["A", "B", "C"], pushes);
    scenario.collectors = 2;
    scenario.lost_deletes = true;
    scenario.piecemeal = true;
    scenario.slow_calls = true;
    scenario
}
