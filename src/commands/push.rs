//! `niks3 copy` and `niks3 push`.

use std::{
    io::{self, BufRead as _},
    sync::Arc,
};

use niks3_core::store_path::StorePath;
use tokio::runtime::Runtime;

use super::CommandError;
use crate::{
    api::{Api, Tokens},
    config::PushConfig,
    nix::{self, Store},
    push::{
        self, Context, Progress, Pushed, S3, Style,
        select::{self, BATCH_PATHS, Batch},
    },
    report,
};

/// Pushes what was named; in JSON, an error is the last event.
pub(super) fn run(config: PushConfig) -> Result<(), CommandError> {
    report::start_log();
    let style = config.style;
    let pushed = push(config);
    if let (Style::Json, Err(error)) = (style, &pushed) {
        report::event(error);
    }
    pushed
}

/// Resolves what was named, pushes it batch by batch and says what was done.
fn push(config: PushConfig) -> Result<(), CommandError> {
    let progress = Arc::new(Progress::new(config.style));
    let runtime = Runtime::new().map_err(CommandError::Start)?;
    let tokens = runtime.block_on(Tokens::read(config.token.clone()))?;
    let api = Api::new(config.server.clone(), tokens)?;
    let store = Store::open(config.store.clone())?;
    let roots = roots(&config, &store)?;
    if roots.is_empty() {
        return Err(CommandError::Nothing);
    }
    let batches = batches(&config, &store, roots, &progress)?;
    let cx = Context {
        api: Arc::new(api),
        store: Arc::new(store),
        s3: S3::new(config.uploads)?,
        progress,
        options: config.options,
    };
    let pushed = runtime.block_on(push_all(&cx, batches));
    // A thread that still packs ends at its next buffer; nobody waits for it.
    runtime.shutdown_background();
    let pushed = pushed?;
    if !cx.options.dry_run {
        cx.progress.done(&pushed, cx.s3.requests(), cx.api.calls());
    }
    Ok(())
}

async fn push_all(cx: &Context, batches: Vec<Batch>) -> Result<Pushed, CommandError> {
    let (mut pushed, count) = (Pushed::default(), batches.len());
    for (batch, number) in batches.iter().zip(1..) {
        if count > 1 {
            let (roots, paths) = (batch.roots.len(), batch.paths.len());
            cx.progress.note(&format!("batch {number} of {count}: {roots} roots, {paths} paths"));
        }
        pushed = pushed.and(push::push(cx, batch).await?);
    }
    Ok(pushed)
}

/// The closures of the roots that are not left out.
fn batches(
    config: &PushConfig,
    store: &Store,
    roots: Vec<StorePath>,
    progress: &Progress,
) -> Result<Vec<Batch>, CommandError> {
    let closure = store.closure(&roots)?;
    if config.leave_out.is_nothing() {
        return Ok(select::batches(closure, &roots, BATCH_PATHS));
    }
    let mut kept = roots;
    for path in &closure {
        if let (Some(reason), Some(place)) =
            (config.leave_out.reason(path), kept.iter().position(|root| *root == path.path))
        {
            let whole = path.path.absolute(&store.settings().store_dir);
            progress.note(&format!("{whole} is left out: {reason}"));
            kept.remove(place);
        }
    }
    let batches = match kept.as_slice() {
        [] => Vec::new(),
        kept => select::batches(store.closure(kept)?, kept, BATCH_PATHS),
    };
    Ok(batches)
}

fn roots(config: &PushConfig, store: &Store) -> Result<Vec<StorePath>, CommandError> {
    let mut roots = if config.all {
        store.all_paths()?
    } else {
        let mut texts = config.installables.clone();
        if config.stdin {
            for line in io::stdin().lock().lines() {
                let line = line.map_err(CommandError::Stdin)?;
                texts.extend(Some(line.trim().to_owned()).filter(|line| !line.is_empty()));
            }
        }
        nix::resolve(store, &texts, config.want)?
    };
    roots.sort();
    roots.dedup();
    Ok(roots)
}
