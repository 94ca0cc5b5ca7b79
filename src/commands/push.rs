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
    push::{self, Context, Progress, human_bytes, plural},
};

/// Resolves what was named, pushes it and says what was done.
pub(super) fn run(config: PushConfig) -> Result<(), CommandError> {
    crate::report::start_log();
    let runtime = Runtime::new().map_err(CommandError::Start)?;
    let tokens = runtime.block_on(Tokens::read(config.token.clone()))?;
    let api = Api::new(config.server.clone(), tokens)?;
    let store = Store::open(config.store.clone())?;
    let roots = roots(&config, &store)?;
    if roots.is_empty() {
        return Err(CommandError::Nothing);
    }
    let cx = Context {
        api: Arc::new(api),
        store: Arc::new(store),
        http: push::s3_client()?,
        progress: Arc::new(Progress::new()),
    };
    let pushed = runtime.block_on(push::push(&cx, roots));
    // A thread that still packs ends at its next buffer; nobody waits for it.
    runtime.shutdown_background();
    let pushed = pushed?;
    let (paths, took) = (plural(pushed.paths, "path"), pushed.took.as_secs_f64());
    if pushed.nars == 0 {
        eprintln!("{paths} in the cache, nothing to send ({took:.1} s)");
    } else {
        let nars = plural(pushed.nars, "NAR");
        eprintln!(
            "{paths} in the cache, {nars} of {} sent ({took:.1} s)",
            human_bytes(pushed.bytes)
        );
    }
    Ok(())
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
