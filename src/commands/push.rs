//! `niks3 copy` and `niks3 push`.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead as _},
    sync::Arc,
    time::Instant,
};

use super::{CommandError, connect};
use crate::{
    config::PushConfig,
    interrupt::Interrupts,
    nix::{self, Store, TempRoots},
    push::{
        self, Context, Progress, PushError, Pushed, S3, Style,
        select::{self, BATCH_PATHS, Batch},
    },
    report,
};
use niks3_core::{pin_name::PinName, store_path::StorePath};

/// Pushes what was named; in JSON, an error is the last event.
pub(super) fn run(config: PushConfig) -> Result<(), CommandError> {
    let style = config.style;
    report::start_log(style);
    let pushed = push(config);
    if let (Style::Json, Err(error)) = (style, &pushed) {
        report::event(error);
    }
    pushed
}

/// Resolves what was named, pushes it batch by batch and says what was done.
fn push(config: PushConfig) -> Result<(), CommandError> {
    let started = Instant::now();
    let progress = Arc::new(Progress::new(config.style));
    let (runtime, api) = connect(&config.server)?;
    let store = Store::open(config.store.clone())?;
    let roots = roots(&config, &store)?;
    if roots.is_empty() {
        return Err(CommandError::Nothing);
    }
    let pin = pin(&config, &roots)?;
    let roots = kept(&config, &store, roots, &progress)?;
    if let (Some((name, path)), true) = (&pin, roots.is_empty()) {
        return Err(CommandError::PinLeftOut { name: name.clone(), path: path.clone() });
    }
    // Before the closure is read: from here on nothing of it is collected.
    let kept_until_done =
        (!config.options.dry_run).then(|| TempRoots::keep(store.settings(), &roots));
    let closure = if roots.is_empty() { Vec::new() } else { store.closure(&roots)? };
    let (paths, batches) = (closure.len(), select::batches(closure, &roots, BATCH_PATHS));
    let cx = Context {
        api: Arc::new(api),
        store: Arc::new(store),
        s3: S3::new(config.uploads)?,
        progress,
        interrupts: runtime
            .block_on(async { Interrupts::listen() })
            .map_err(CommandError::Start)?,
        upstream_keys: config.upstream_keys,
        options: config.options,
    };
    let ended = runtime.block_on(async {
        push_all(&cx, batches).await?;
        match pin {
            Some((name, path)) => keep(&cx, name, path).await,
            None => Ok(()),
        }
    });
    drop(kept_until_done);
    // A thread that still packs ends at its next buffer; nobody waits for it.
    runtime.shutdown_background();
    ended?;
    let (requests, calls) = (cx.s3.requests(), cx.api.calls());
    let pushed = Pushed { paths, requests, calls, took: started.elapsed() };
    if cx.options.dry_run {
        cx.progress.dry_run_done(&pushed);
    } else {
        cx.progress.done(&pushed);
    }
    Ok(())
}

async fn push_all(cx: &Context, batches: Vec<Batch>) -> Result<(), CommandError> {
    let count = batches.len();
    for (batch, number) in batches.iter().zip(1..) {
        if count > 1 {
            let (roots, paths) = (batch.roots.len(), batch.paths.len());
            cx.progress.note(&format!("batch {number} of {count}: {roots} roots, {paths} paths"));
        }
        push::push(cx, batch).await?;
    }
    Ok(())
}

/// What shall be pinned.
fn pin(
    config: &PushConfig,
    roots: &[StorePath],
) -> Result<Option<(PinName, StorePath)>, CommandError> {
    match (&config.pin, roots) {
        (None, _) => Ok(None),
        (Some(name), [root]) => Ok(Some((name.clone(), root.clone()))),
        (Some(_), roots) => Err(CommandError::PinOfSeveral { count: roots.len() }),
    }
}

/// Pins what is in the cache now.
async fn keep(cx: &Context, name: PinName, path: StorePath) -> Result<(), CommandError> {
    if cx.options.dry_run {
        cx.progress.note(&format!("would pin {path} as {name}"));
        return Ok(());
    }
    let pinned = tokio::select! {
        pinned = cx.api.pin(&name, &path) => pinned,
        () = cx.interrupts.reach(1) => return Err(PushError::Interrupted.into()),
    };
    match pinned {
        Ok(pin) => {
            cx.progress.pinned(&pin);
            Ok(())
        }
        Err(source) => Err(CommandError::Pin { name, path, source }),
    }
}

/// The roots that are not left out.
fn kept(
    config: &PushConfig,
    store: &Store,
    roots: Vec<StorePath>,
    progress: &Progress,
) -> Result<Vec<StorePath>, CommandError> {
    if config.leave_out.is_nothing() {
        return Ok(roots);
    }
    let named: HashSet<&StorePath> = roots.iter().collect();
    let closure = store.closure(&roots)?;
    let reasons: BTreeMap<StorePath, String> = closure
        .iter()
        .filter(|path| named.contains(&path.path))
        .filter_map(|path| Some((path.path.clone(), config.leave_out.reason(path)?)))
        .collect();
    let kept: Vec<StorePath> =
        roots.into_iter().filter(|root| !reasons.contains_key(root)).collect();
    let needed = if kept.is_empty() { Vec::new() } else { store.closure(&kept)? };
    let needed: HashSet<&StorePath> = needed.iter().map(|path| &path.path).collect();
    for (path, reason) in &reasons {
        let whole = path.absolute(&store.settings().store_dir);
        progress.note(&if needed.contains(path) {
            format!("{whole} is no root, {reason}, but another root needs it")
        } else {
            format!("{whole} is left out: {reason}")
        });
    }
    Ok(kept)
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
