//! `niks3 closures`

use std::cmp::Reverse;

use niks3_core::{store_path::StoreDir, wire::Closure};
use serde_json::json;

use super::{
    CommandError, connect, print,
    table::{self, time},
};
use crate::{
    config::{ClosuresCommand, ClosuresConfig},
    nix,
    push::Style,
    report,
    text::human_bytes,
};

pub(super) fn run(config: ClosuresConfig) -> Result<(), CommandError> {
    report::start_log(Style::Normal);
    let store_dir = &config.store.store_dir;
    match config.command {
        ClosuresCommand::List { json } => {
            let (runtime, api) = connect(&config.server)?;
            let closures = newest_first(runtime.block_on(api.closures())?);
            let list = if json { as_json } else { as_table };
            print(&list(&closures, store_dir));
        }
        ClosuresCommand::Delete { path } => {
            let path = nix::resolve_root(&config.store, &path)?;
            let (runtime, api) = connect(&config.server)?;
            let whole = path.absolute(store_dir);
            runtime
                .block_on(api.delete_closure(&path.hash()))
                .map_err(|source| CommandError::DeleteClosure { path, source })?;
            eprintln!(
                "the closure of {whole} has expired: `niks3 gc` deletes what nothing else needs"
            );
        }
    }
    Ok(())
}

fn newest_first(mut closures: Vec<Closure>) -> Vec<Closure> {
    closures.sort_by(|a, b| {
        (Reverse(a.pushed_at), a.path.name(), &a.path).cmp(&(
            Reverse(b.pushed_at),
            b.path.name(),
            &b.path,
        ))
    });
    closures
}

/// Paths are whole: what reads this hands them to Nix.
fn as_json(closures: &[Closure], store_dir: &StoreDir) -> String {
    let closures = closures.iter().map(|closure| {
        json!({
            "path": closure.path.absolute(store_dir),
            "pushed_at": closure.pushed_at,
            "pinned_by": closure.pinned_by,
            "paths": closure.paths,
            "bytes": closure.bytes,
        })
    });
    format!("{:#}\n", closures.collect::<serde_json::Value>())
}

fn as_table(closures: &[Closure], store_dir: &StoreDir) -> String {
    let rows = closures.iter().map(|closure| {
        let pins: Vec<String> = closure.pinned_by.iter().map(ToString::to_string).collect();
        let pins = if pins.is_empty() { "-".to_owned() } else { pins.join(",") };
        let (pushed, size) = (time(closure.pushed_at), human_bytes(closure.bytes));
        [pushed, size, closure.paths.to_string(), pins, closure.path.absolute(store_dir)]
    });
    table::text(["PUSHED (UTC)", "SIZE", "PATHS", "PINNED BY", "ROOT"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure(golden: &str, pushed_at: u64) -> Closure {
        let mut closure: Closure = serde_json::from_str(golden).unwrap();
        closure.pushed_at = pushed_at;
        closure
    }

    #[test]
    fn the_newest_comes_first() {
        let golden = include_str!("../../core/tests/golden/closure.json");
        let mut lone = closure(golden, 0);
        lone.pinned_by.clear();
        let closures = newest_first(vec![lone, closure(golden, 1_795_360_657)]);
        let dir = StoreDir::default();
        assert_eq!(
            as_table(&closures, &dir),
            "PUSHED (UTC)      SIZE      PATHS  PINNED BY         ROOT\n\
             2026-11-22 15:17  987.7 MB  214    main,release-1.2  \
             /nix/store/4ml2s260zpvzdqanvhnk8pr4r9dj5k1k-multi\n\
             1970-01-01 00:00  987.7 MB  214    -                 \
             /nix/store/4ml2s260zpvzdqanvhnk8pr4r9dj5k1k-multi\n"
        );
        let read: serde_json::Value = serde_json::from_str(&as_json(&closures, &dir)).unwrap();
        assert_eq!(read[0]["pinned_by"], json!(["main", "release-1.2"]));
        assert_eq!(read[1]["pinned_by"], json!([]));
        assert_eq!(read[1]["pushed_at"], 0);
    }
}
