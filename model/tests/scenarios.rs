//! The protocol keeps its promises in every scenario.
use std::time::Instant;

use niks3_model::{Niks3, Scenario, scenarios};
use stateright::{Checker as _, Model as _};

fn holds(scenario: Scenario) {
    let name = scenario.name;
    let started = Instant::now();
    let checker = Niks3::new(scenario).checker().spawn_dfs().join();
    println!(
        "{name}: {} states, {} steps, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

#[test]
fn again() {
    holds(scenarios::again());
}

#[test]
fn overlapping() {
    holds(scenarios::overlapping());
}
#[test]
fn other_contents() {
    holds(scenarios::other_contents());
}
#[test]
fn late_bodies() {
    holds(scenarios::late_bodies());
}
#[test]
fn paused() {
    holds(scenarios::paused());
}
#[test]
fn realisations() {
    holds(scenarios::realisations());
}
#[test]
fn piecemeal() {
    holds(scenarios::piecemeal());
}
