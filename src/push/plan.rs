//! From a closure to the plan's request, and from its answer to the work to do: plain values.

use std::collections::HashMap;

use niks3_core::{
    hash::NarHash,
    store_path::{StoreDir, StorePath, StorePathHash},
    wire::{PlanRequest, PlanResponse, PlannedPath},
};

use crate::nix::ValidPath;

/// One thing to do: a NAR to send, or listings alone of a NAR that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The path that is packed, or only walked through.
    pub path: StorePath,
    /// What Nix recorded of it.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Whether the NAR is to be sent.
    pub send_nar: bool,
    /// Paths with these contents whose listings are wanted.
    pub listings: Vec<StorePathHash>,
}

/// A build log to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWork {
    /// The path that it is a log of.
    pub path: StorePathHash,
    /// What built that path.
    pub derivation: StorePath,
}

/// A closure as the server wants it: references as indexes. Without what only the files say.
#[must_use]
pub fn request(store_dir: &StoreDir, closure: &[ValidPath], roots: &[StorePath]) -> PlanRequest {
    let indexes: HashMap<&StorePath, u32> =
        closure.iter().enumerate().map(|(index, path)| (&path.path, index as u32)).collect();
    let index = |path: &StorePath| indexes.get(path).copied();
    let paths = closure.iter().map(|path| PlannedPath {
        path: path.path.clone(),
        nar_hash: path.nar_hash,
        nar_size: path.nar_size,
        references: path.references.iter().filter_map(index).collect(),
        deriver: path.deriver.clone(),
        ca: path.ca.clone(),
        signatures: path.signatures.clone(),
        log: false,
        realisations: path.realisations.clone(),
        debug_info: Vec::new(),
    });
    let mut roots: Vec<u32> = roots.iter().filter_map(index).collect();
    roots.sort_unstable();
    roots.dedup();
    PlanRequest {
        store_dir: store_dir.to_string(),
        roots,
        paths: paths.collect(),
        dry_run: false,
        upstream_keys: Vec::new(),
    }
}

/// What is to be done, the largest NARs first: what takes longest should not start last.
#[must_use]
pub fn work(plan: &PlanRequest, answer: &PlanResponse) -> Vec<Work> {
    let mut by_hash: HashMap<NarHash, Work> = HashMap::new();
    let wanted = answer.nars.iter().map(|index| (index, true));
    let wanted = wanted.chain(answer.listings.iter().map(|index| (index, false)));
    for (index, nar) in wanted {
        // An index beyond our own plan is the server's mistake; there is nothing to send for it.
        let Some(path) = plan.paths.get(*index as usize) else { continue };
        let work = by_hash.entry(path.nar_hash).or_insert_with(|| Work {
            path: path.path.clone(),
            nar_hash: path.nar_hash,
            nar_size: path.nar_size,
            send_nar: false,
            listings: Vec::new(),
        });
        if nar {
            work.send_nar = true;
        } else {
            work.listings.push(path.path.hash());
        }
    }
    let mut work: Vec<Work> = by_hash.into_values().collect();
    work.sort_by(|a, b| b.nar_size.cmp(&a.nar_size).then_with(|| a.path.cmp(&b.path)));
    work
}

/// The logs that are to be sent.
#[must_use]
pub fn logs(plan: &PlanRequest, answer: &PlanResponse) -> Vec<LogWork> {
    let paths = answer.logs.iter().filter_map(|index| plan.paths.get(*index as usize));
    let logs = paths.filter_map(|path| {
        Some(LogWork { path: path.path.hash(), derivation: path.deriver.clone()? })
    });
    logs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: u32, hash: u8, nar_size: u64, references: &[u32]) -> ValidPath {
        ValidPath {
            path: name(number),
            nar_hash: NarHash::new([hash; 32]),
            nar_size,
            references: references.iter().map(|number| name(*number)).collect(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            realisations: Vec::new(),
        }
    }

    fn name(number: u32) -> StorePath {
        format!("{number:032}-p").parse().unwrap()
    }

    #[test]
    fn references_become_indexes_and_roots_are_named_once() {
        let closure = [path(0, 1, 10, &[1, 0]), path(1, 2, 20, &[])];
        let plan = request(&StoreDir::default(), &closure, &[name(1), name(0), name(1)]);
        assert_eq!(plan.paths[0].references, [1, 0]);
        assert_eq!(plan.roots, [0, 1]);
        assert_eq!(plan.store_dir, "/nix/store");
    }

    #[test]
    fn a_log_is_sent_under_the_path_that_the_server_named() {
        let mut built = path(1, 2, 20, &[]);
        built.deriver = Some("00000000000000000000000000000000-p.drv".parse().unwrap());
        let closure = [path(0, 1, 10, &[1]), built.clone()];
        let plan = request(&StoreDir::default(), &closure, &[name(0)]);
        // What has no deriver, and what is not in the plan, is the server's mistake.
        let answer = PlanResponse { logs: vec![1, 0, 7], ..PlanResponse::default() };
        let (path, derivation) = (built.path.hash(), built.deriver.unwrap());
        assert_eq!(logs(&plan, &answer), [LogWork { path, derivation }]);
    }

    #[test]
    fn equal_contents_are_packed_once_and_the_largest_first() {
        let closure =
            [path(0, 1, 10, &[]), path(1, 2, 20, &[]), path(2, 1, 10, &[]), path(3, 3, 5, &[])];
        let plan = request(&StoreDir::default(), &closure, &[name(0)]);
        let answer =
            PlanResponse { nars: vec![0, 1], listings: vec![0, 2, 3], ..PlanResponse::default() };
        let work = work(&plan, &answer);
        let shown: Vec<_> =
            work.iter().map(|work| (work.nar_size, work.send_nar, work.listings.clone())).collect();
        assert_eq!(
            shown,
            [
                (20, true, vec![]),
                (10, true, vec![name(0).hash(), name(2).hash()]),
                (5, false, vec![name(3).hash()])
            ]
        );
    }
}
