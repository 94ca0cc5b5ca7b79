//! Each scenario really does what it is about: else that nothing is broken in it would prove little.

use niks3_model::{Asked, Niks3, Scenario, reached::Event, scenarios};
use stateright::{Checker as _, Model as _};

fn reaches(scenario: Scenario, events: &'static [Event]) {
    let model = Niks3 { asked: Asked::Reached(events), ..Niks3::new(scenario) };
    // Stops when all have been seen.
    model.checker().spawn_bfs().join().assert_properties();
}

#[test]
fn overlapping_closures_share_and_revive() {
    reaches(
        scenarios::overlapping(),
        &[Event::Revived, Event::Adopted, Event::Spare, Event::TwoClosures, Event::Deleted],
    );
}

#[test]
fn a_closure_that_joins_revives_and_waits() {
    reaches(
        scenarios::joining(),
        &[Event::Revived, Event::PlanWaits, Event::Retried, Event::RevivedUnstored],
    );
}

#[test]
fn an_expired_closure_is_revived_waited_for_and_deleted() {
    const EVENTS: &[Event] = &[
        Event::Revived,
        Event::PlanWaits,
        Event::Deleted,
        Event::Retried,
        Event::RevivedUnstored,
        Event::CommittedAtOnce,
    ];
    reaches(scenarios::again(), EVENTS);
}

#[test]
fn other_contents_are_kept_or_dropped() {
    reaches(scenarios::other_contents(), &[Event::KeptOther, Event::Spare, Event::Deleted]);
}

#[test]
fn bodies_do_arrive_late() {
    reaches(
        scenarios::late_bodies(2),
        &[Event::LatePut, Event::LatePutOnGarbage, Event::Adopted, Event::Retried],
    );
}

#[test]
fn a_collector_is_paused_for_too_long() {
    reaches(
        scenarios::paused(),
        &[Event::PausedTooLong, Event::PlanWaits, Event::RevivedUnstored, Event::Retried],
    );
}

#[test]
fn a_realisation_goes_first_and_moves() {
    reaches(
        scenarios::realisations(),
        &[Event::RealisationFirst, Event::RealisationMoves, Event::RealisationKept],
    );
}

#[test]
fn path_by_path_there_are_revivals_in_between() {
    reaches(scenarios::piecemeal(), &[Event::Revived, Event::PlanWaits, Event::TwoClosures]);
}
