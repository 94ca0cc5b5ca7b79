//! Each rule of the protocol is needed: without it the model finds an accident. What it finds is a shortest
//! way there, printed with `--nocapture`.

use niks3_model::{
    Mutation, Niks3, Scenario,
    invariants::{COLLECTED, COMPLETE, REALISABLE, REMEMBERED, SPARED, STORED},
    scenarios,
};
use stateright::{Checker as _, HasDiscoveries, Model as _};

/// Without `rules` the scenario comes to a state in which `broken` is not true.
fn breaks(scenario: Scenario, rules: &[Mutation], broken: &'static str) {
    let name = scenario.name;
    let checker = Niks3::without(scenario, rules)
        .checker()
        .finish_when(HasDiscoveries::AnyOf([broken].into()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(broken);
    let path = path.unwrap_or_else(|| panic!("without {rules:?} {name} comes to no harm"));
    println!("{name} without {rules:?}, not true: {broken}\n{}", checker.model().tell(path));
}

/// Without `rules` something is broken, and never any of `kept`: another rule stands in.
fn keeps(scenario: Scenario, rules: &[Mutation], kept: &[&'static str]) {
    let checker = Niks3::without(scenario, rules).checker().spawn_bfs().join();
    let broken = checker.discoveries();
    assert!(!broken.is_empty(), "{rules:?} breaks nothing at all");
    for property in kept {
        assert!(!broken.contains_key(property), "{rules:?} breaks: {property}");
    }
}

#[test]
fn a_claim_that_asks_nothing_again_deletes_what_was_planned_since() {
    breaks(scenarios::again(), &[Mutation::SkipRecheck], COMPLETE);
}

#[test]
fn a_claim_of_what_is_referred_to_leaves_a_narinfo_without_it() {
    breaks(scenarios::again(), &[Mutation::ClaimReferred], REALISABLE);
    breaks(scenarios::again(), &[Mutation::ClaimReferred], COMPLETE);
}

#[test]
fn a_claim_of_what_can_be_written_leaves_an_object_without_a_row() {
    breaks(scenarios::late_bodies(2), &[Mutation::ClaimWhileWritable], COLLECTED);
    breaks(scenarios::again(), &[Mutation::ClaimWhileWritable], REALISABLE);
}

#[test]
fn a_fence_before_the_end_of_urls_leaves_an_object_without_a_row() {
    breaks(scenarios::late_bodies(2), &[Mutation::ExpireBeforeUrls], COLLECTED);
    breaks(scenarios::again(), &[Mutation::ExpireBeforeUrls], REALISABLE);
}

#[test]
fn a_realisation_deleted_after_its_narinfo_names_nothing() {
    breaks(scenarios::realisations(), &[Mutation::ClaimBeforeRealisation], REALISABLE);
}

#[test]
fn a_realisation_that_is_not_revived_with_its_narinfo_is_deleted() {
    breaks(scenarios::realisations(), &[Mutation::ForgetRealisation], SPARED);
}

#[test]
fn a_realisation_s_key_taken_over_is_not_what_is_stored() {
    breaks(scenarios::realisations(), &[Mutation::TakeRealisation], STORED);
}

#[test]
fn condemning_outside_of_the_gate_condemns_what_was_planned_since() {
    breaks(scenarios::again(), &[Mutation::CondemnOutsideGate], SPARED);
    breaks(scenarios::again(), &[Mutation::CondemnOutsideGate, Mutation::SkipRecheck], COMPLETE);
}

#[test]
fn the_claim_makes_good_for_a_condemning_outside_of_the_gate() {
    keeps(scenarios::joining(), &[Mutation::CondemnOutsideGate], &[COMPLETE, REALISABLE, STORED]);
}

#[test]
fn what_is_planned_and_not_revived_stays_condemned() {
    breaks(scenarios::again(), &[Mutation::ForgetToRevive], SPARED);
    breaks(scenarios::again(), &[Mutation::ForgetToRevive, Mutation::SkipRecheck], COMPLETE);
}

#[test]
fn references_that_are_not_revived_stay_condemned() {
    breaks(scenarios::again(), &[Mutation::ForgetReferences], SPARED);
}

#[test]
fn a_claim_spares_what_was_not_revived() {
    for rule in [Mutation::ForgetToRevive, Mutation::ForgetReferences] {
        keeps(scenarios::joining(), &[rule], &[COMPLETE, REALISABLE, STORED]);
    }
}

#[test]
fn a_plan_that_does_not_wait_for_a_claimed_object_loses_it() {
    breaks(scenarios::again(), &[Mutation::PlanClaimed], COMPLETE);
}

#[test]
fn holds_let_go_silently_are_never_collected() {
    breaks(scenarios::late_bodies(2), &[Mutation::ReleaseSilently], COLLECTED);
}

#[test]
fn a_closure_that_expires_silently_is_never_collected() {
    breaks(scenarios::again(), &[Mutation::ExpireSilently], COLLECTED);
}

#[test]
fn references_of_what_is_condemned_silently_are_never_collected() {
    breaks(scenarios::piecemeal(), &[Mutation::CondemnSilently], REMEMBERED);
    breaks(scenarios::piecemeal(), &[Mutation::CondemnSilently], COLLECTED);
}

#[test]
fn a_paused_collector_without_a_fence_deletes_what_came_since() {
    breaks(scenarios::paused(), &[Mutation::UnfencedDelete], COMPLETE);
}

#[test]
fn a_retry_s_success_hides_a_delete_that_still_travels() {
    breaks(scenarios::again(), &[Mutation::ForgetUnanswered], COMPLETE);
}

#[test]
fn a_proxy_s_error_hides_a_delete_that_still_travels() {
    breaks(scenarios::again(), &[Mutation::BelieveProxies], COMPLETE);
}

#[test]
fn rows_deleted_without_the_token_are_those_of_what_came_since() {
    breaks(scenarios::paused(), &[Mutation::RowsWithoutToken], COMPLETE);
}

#[test]
fn references_deleted_without_the_token_are_those_of_what_came_since() {
    breaks(scenarios::paused(), &[Mutation::RefsWithoutToken], COMPLETE);
}

#[test]
fn what_is_given_back_too_early_is_deleted_afterwards() {
    breaks(scenarios::again(), &[Mutation::UnclaimEarly], COMPLETE);
}

#[test]
fn what_is_given_back_as_stored_may_be_gone() {
    breaks(scenarios::again(), &[Mutation::UnclaimStored], COMPLETE);
}

#[test]
fn a_note_after_the_end_of_an_upload_may_be_wrong() {
    breaks(scenarios::again(), &[Mutation::NoteAfterEnd], STORED);
}

#[test]
fn a_report_after_the_end_of_an_upload_may_be_wrong() {
    breaks(scenarios::again(), &[Mutation::ReportAfterEnd], STORED);
}

#[test]
fn a_narinfo_published_before_its_references_cannot_be_realised() {
    breaks(scenarios::overlapping(), &[Mutation::PublishEarly], REALISABLE);
}

#[test]
fn a_path_composed_twice_is_not_what_is_stored() {
    breaks(scenarios::other_contents(), &[Mutation::ComposeTwice], REMEMBERED);
    breaks(scenarios::other_contents(), &[Mutation::ComposeTwice], REALISABLE);
}
