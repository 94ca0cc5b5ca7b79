//! The protocol keeps its promises in every state of every scenario.

use std::time::Instant;

use niks3_model::{Niks3, Scenario, scenarios};
use stateright::{Checker as _, HasDiscoveries, Model as _};

/// Looks at every state, and prints how many there are. Breadth first: what is found is a shortest way.
fn holds(scenario: Scenario) {
    let (name, started) = (scenario.name, Instant::now());
    let checker =
        Niks3::new(scenario).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    if let Some((broken, path)) = checker.discoveries().into_iter().next() {
        let last = path.last_state().clone();
        panic!("{name}: not true: {broken}\n{}{last:#?}", checker.model().tell(path));
    }
    assert!(checker.is_done(), "{name}: states were left out");
    println!(
        "{name}: {} states, {} steps, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn two_overlapping_closures_are_kept_and_collected() {
    holds(scenarios::overlapping());
}

#[test]
fn a_closure_may_join_another_that_is_swept() {
    holds(scenarios::joining());
}

#[test]
fn an_expired_closure_may_be_pushed_again_while_it_is_swept() {
    holds(scenarios::again());
}

#[test]
fn one_path_may_be_pushed_with_other_contents() {
    holds(scenarios::other_contents());
}

#[test]
#[ignore = "long"]
fn one_path_may_be_pushed_with_other_references() {
    holds(scenarios::other_references());
}

#[test]
fn bodies_may_arrive_after_their_upload_was_given_up() {
    holds(scenarios::late_bodies(2));
}

#[test]
#[ignore = "long"]
fn bodies_of_three_pushes_may_arrive_late() {
    holds(scenarios::late_bodies(3));
}

#[test]
fn a_collector_may_be_paused_and_wake_up() {
    holds(scenarios::paused());
}

#[test]
fn a_realisation_never_outlives_its_narinfo() {
    holds(scenarios::realisations());
}

#[test]
fn plans_and_releases_may_be_path_by_path() {
    holds(scenarios::piecemeal());
}
