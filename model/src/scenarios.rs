//! The scenarios. Bounds are what stands here: paths, pushes, each opened at most once, collectors; nothing
//! else is bounded. States are counted by `cargo test -p niks3-model -- --nocapture`.

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

/// Two overlapping closures, A → C and B → C, are pushed into an empty cache. C has a NAR, A and B have none.
#[must_use]
pub fn overlapping() -> Scenario {
    const B: Slot = 1;
    const C: Slot = 2;
    let c = || path(C, Some(1), &[]);
    let a = push(vec![c(), path(A, None, &[C])]);
    let b = push(vec![c(), path(B, None, &[C])]);
    Scenario::new("overlapping closures", &["A", "B", "C"], vec![a, b])
}

/// A → C is there, and is pushed again while it expires and is swept.
#[must_use]
pub fn again() -> Scenario {
    const C: Slot = 1;
    let closure = || vec![path(C, Some(1), &[]), path(A, None, &[C])];
    let pushes = vec![earlier(closure()), push(closure())];
    let mut scenario = Scenario::new("pushed again", &["A", "C"], pushes);
    scenario.lost_deletes = true;
    scenario.slow_calls = true;
    scenario
}

/// A is pushed from two machines: with other contents, and with other references.
#[must_use]
pub fn other_contents() -> Scenario {
    const C: Slot = 1;
    const D: Slot = 2;
    let one = push(vec![path(C, None, &[]), path(A, Some(1), &[C])]);
    let other = push(vec![path(D, None, &[]), path(A, Some(2), &[D])]);
    Scenario::new("other contents", &["A", "C", "D"], vec![one, other])
}

/// Pushes of the same contents give up while their bodies are on the way.
#[must_use]
pub fn late_bodies() -> Scenario {
    let one = || push(vec![path(A, Some(1), &[])]);
    Scenario::new("late bodies", &["A"], vec![one(), one()])
}

/// A is there, and is pushed again twice, while one of two collectors is paused.
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

/// Two builds of one derivation gave the paths A and B: one realisation, which names the one or the other.
#[must_use]
pub fn realisations() -> Scenario {
    const B: Slot = 1;
    let realised = |slot| Planned { realised: true, ..path(slot, None, &[]) };
    let pushes = vec![push(vec![realised(A)]), push(vec![realised(B)]), push(vec![realised(A)])];
    let mut scenario = Scenario::new("realisations", &["A", "B"], pushes);
    scenario.lost_deletes = true;
    scenario
}

/// A → C is there. It and B → C are pushed while it is swept, and plans and releases go path by path.
#[must_use]
pub fn piecemeal() -> Scenario {
    const B: Slot = 1;
    const C: Slot = 2;
    let a = || vec![path(C, None, &[]), path(A, None, &[C])];
    let b = vec![path(C, None, &[]), path(B, None, &[C])];
    let pushes = vec![earlier(a()), push(a()), push(b)];
    let mut scenario = Scenario::new("chunk by chunk", &["A", "B", "C"], pushes);
    scenario.piecemeal = true;
    scenario
}
