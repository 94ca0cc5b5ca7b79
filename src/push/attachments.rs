//! What goes along with the paths of a plan and stands in no database: whether there is a build log,
//! and which debug files there are.

use niks3_core::{
    limits::{MAX_ATTACHMENTS, MAX_DEBUG_FILES_PER_PATH},
    store_path::StoreDir,
    wire::{PlanRequest, PlannedPath},
};

use crate::nix::{BuildLog, StoreSettings, build_ids};

/// Adds it to the plan, within the limits of a server. Answers what the person should know.
pub(super) fn add(
    settings: &StoreSettings,
    index_debug_info: bool,
    plan: &mut PlanRequest,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for path in &mut plan.paths {
        let log =
            path.deriver.as_ref().and_then(|deriver| BuildLog::find(&settings.log_dir, deriver));
        path.log = log.is_some();
        if index_debug_info {
            warnings.extend(add_debug_info(settings, path));
        }
    }
    warnings.extend(keep_most(&settings.store_dir, &mut plan.paths, MAX_ATTACHMENTS));
    warnings
}

fn add_debug_info(settings: &StoreSettings, path: &mut PlannedPath) -> Option<String> {
    let whole = path.path.absolute(&settings.store_dir);
    match build_ids(&settings.real_path(&path.path)) {
        Ok(ids) => path.debug_info = ids,
        Err(error) => return Some(format!("cannot look for debug files in {whole}: {error}")),
    }
    let count = path.debug_info.len();
    path.debug_info.truncate(MAX_DEBUG_FILES_PER_PATH);
    (count > MAX_DEBUG_FILES_PER_PATH).then(|| {
        format!("{whole} has {count} debug files; {MAX_DEBUG_FILES_PER_PATH} of them are indexed")
    })
}

/// Leaves out what comes after the first `most` realisations and debug files: the push is worth more
/// than all of them.
fn keep_most(store_dir: &StoreDir, paths: &mut [PlannedPath], most: usize) -> Option<String> {
    let (mut room, mut first) = (most, None);
    for path in paths {
        let count = path.realisations.len() + path.debug_info.len();
        path.realisations.truncate(room);
        room -= path.realisations.len();
        path.debug_info.truncate(room);
        room -= path.debug_info.len();
        if path.realisations.len() + path.debug_info.len() < count {
            first.get_or_insert_with(|| path.path.absolute(store_dir));
        }
    }
    first.map(|first| {
        format!(
            "the closure has more than {most} realisations and debug files; those of {first} and \
             later paths are left out"
        )
    })
}

#[cfg(test)]
mod tests {
    use niks3_core::{hash::NarHash, wire::PlannedRealisation};

    use super::*;

    fn path(number: u32, realisations: u32, debug_files: u32) -> PlannedPath {
        let realisation = |n| PlannedRealisation {
            id: format!("sha256:{number:032x}{n:032x}!out").parse().unwrap(),
            dependencies: Default::default(),
            signatures: Vec::new(),
        };
        PlannedPath {
            path: format!("{number:032}-p").parse().unwrap(),
            nar_hash: NarHash::new([0; 32]),
            nar_size: 112,
            references: Vec::new(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            log: false,
            realisations: (0..realisations).map(realisation).collect(),
            debug_info: (0..debug_files).map(|n| format!("{n:040x}").parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_a_server_would_refuse_is_left_out_and_named_once() {
        let counts = |most| {
            let mut paths = [path(0, 2, 1), path(1, 1, 2), path(2, 1, 0)];
            let warning = keep_most(&StoreDir::default(), &mut paths, most);
            let counts = paths.map(|path| (path.realisations.len(), path.debug_info.len()));
            (counts, warning)
        };
        assert_eq!(counts(7), ([(2, 1), (1, 2), (1, 0)], None));
        let (kept, warning) = counts(5);
        assert_eq!(kept, [(2, 1), (1, 1), (0, 0)]);
        let warning = warning.unwrap();
        assert!(warning.contains("more than 5") && warning.contains("1-p"), "{warning}");
        assert_eq!(counts(0).0, [(0, 0); 3]);
    }
}
