//! `niks3 gc`

use niks3_core::wire::{CollectRequest, CollectState, CollectStatus};

use super::{CommandError, connect, print};
use crate::{
    api::Api,
    config::CollectConfig,
    gc::{self, CollectError, Pace, Show, statistics},
    interrupt::Interrupts,
    push::Style,
    report,
};

/// Has the server collect garbage, follows it, and says what was done.
pub(super) fn run(config: CollectConfig) -> Result<(), CommandError> {
    report::start_log(config.style);
    let (runtime, api) = connect(&config.server)?;
    let mut show = Show::new(config.style);
    for warning in dangers(&config.request) {
        show.warn(warning);
    }
    let ended = runtime.block_on(follow(&api, &config.request, &mut show));
    show.finish();
    // A call that is under way is not waited for.
    runtime.shutdown_background();
    let status = ended?;
    let Some(run) = &status.collection else { return Ok(()) };
    match config.style {
        Style::Json => print(&format!("{}\n", serde_json::json!(status))),
        Style::Quiet => {}
        Style::Normal | Style::Verbose => {
            if config.request.dry_run {
                show.line("nothing was changed; this is what would go:");
            }
            print(&statistics::text(&status, &config.store.store_dir));
        }
    }
    if let Some(warning) = statistics::warning(run) {
        show.warn(&warning);
    }
    if let Some(spared) = statistics::spared(run) {
        show.line(&spared);
    }
    if run.state == CollectState::Failed {
        let error = run.error.clone().unwrap_or_else(|| "without saying why".to_owned());
        return Err(CollectError::Failed { number: run.number, error }.into());
    }
    Ok(())
}

async fn follow(
    api: &Api,
    request: &CollectRequest,
    show: &mut Show,
) -> Result<CollectStatus, CommandError> {
    let interrupts = Interrupts::listen().map_err(CommandError::Start)?;
    let ended = tokio::select! {
        ended = gc::collect(api, request, Pace::default(), show) => Some(ended),
        () = interrupts.reach(1) => None,
    };
    Ok(ended.unwrap_or_else(|| Err(CollectError::Interrupted { number: show.number() }))?)
}

/// What a person who did not mean it would want to be told.
fn dangers(request: &CollectRequest) -> Vec<&'static str> {
    let mut dangers = Vec::new();
    if request.dry_run {
        return dangers;
    }
    if request.force {
        dangers.push(
            "--force: THERE IS NO GRACE PERIOD. What nothing needs any more is deleted at once, and \
             machines that are downloading it will fail. What is being pushed is safe.",
        );
    }
    if request.older_than == 0 {
        dangers.push("--older-than 0s: EVERY CLOSURE THAT IS NOT PINNED EXPIRES.");
    }
    dangers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dangerous_is_said_unless_nothing_will_be_changed() {
        let dangers = |older_than, force, dry_run| {
            let failed_uploads_older_than = 0;
            dangers(&CollectRequest { older_than, failed_uploads_older_than, force, dry_run })
        };
        assert!(dangers(1, false, false).is_empty() && dangers(0, true, true).is_empty());
        let both = dangers(0, true, false);
        assert!(both[0].contains("NO GRACE") && both[1].contains("NOT PINNED"), "{both:?}");
    }
}
