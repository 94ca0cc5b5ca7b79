//! Is a plan a closure? Asked by the server of what comes from outside, before anything is kept.

use std::collections::HashMap;

use crate::{
    limits::{
        MAX_ATTACHMENTS, MAX_DEBUG_FILES_PER_PATH, MAX_DEPENDENCIES_PER_REALISATION,
        MAX_PATH_TEXT_BYTES, MAX_PATHS, MAX_REALISATIONS_PER_PATH, MAX_REFERENCES,
        MAX_REFERENCES_PER_PATH, MAX_SIGNATURES_PER_PATH, MAX_UPSTREAM_KEYS,
    },
    store_path::{StoreDir, StorePath, StorePathHash},
    wire::PlanRequest,
};

/// Why a plan is refused. Each message is meant for the person who sent it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefused {
    /// A cache serves one store directory.
    #[error("this cache is for the store directory {ours}, the push is from {theirs}")]
    StoreDir {
        /// The cache's.
        ours: String,
        /// The plan's.
        theirs: String,
    },
    /// Nothing would be a closure.
    #[error("the plan has no roots")]
    NoRoots,
    /// More than a limit.
    #[error("the plan has {count} {what}, the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More than a limit for one path.
    #[error("{path} has {count} {what}, the limit is {limit}")]
    TooManyOf {
        /// Which path.
        path: StorePath,
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A root that is not in the plan.
    #[error("root number {0} is not among the plan's paths")]
    Root(u32),
    /// Not closed under references.
    #[error("{path} refers to path number {index}, which is not among the plan's paths")]
    NotClosed {
        /// Who refers.
        path: StorePath,
        /// To what.
        index: u32,
    },
    /// The same hash part twice: the same path, or two that cannot both be.
    #[error("{0} is in the plan twice")]
    Duplicate(StorePath),
    /// A reference twice in one path.
    #[error("{path} names its reference {to} twice")]
    DuplicateReference {
        /// Who refers.
        path: StorePath,
        /// To what.
        to: StorePath,
    },
    /// No NAR is empty.
    #[error("{0} has a NAR size of 0")]
    EmptyNar(StorePath),
    /// Too large for a signed 64-bit number.
    #[error("{0} has an impossible NAR size")]
    HugeNar(StorePath),
    /// References between store paths have no cycles, and garbage collection rests on that.
    #[error("{0} refers to itself through other paths")]
    Cycle(StorePath),
    /// A path that no root needs would be uploaded for nothing.
    #[error("no root needs {0}")]
    Unreachable(StorePath),
}

/// Checks that `plan` is a closure of its roots in `store_dir`, within the limits. Returns its
/// paths' indexes in an order in which references come before what refers to them.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check(plan: &PlanRequest, store_dir: &StoreDir) -> Result<Vec<u32>, PlanRefused> {
    if plan.store_dir != store_dir.as_str() {
        let (ours, theirs) = (store_dir.to_string(), plan.store_dir.clone());
        return Err(PlanRefused::StoreDir { ours, theirs });
    }
    let references = plan.paths.iter().map(|path| path.references.len()).sum();
    at_most("paths", plan.paths.len(), MAX_PATHS)?;
    at_most("upstream keys", plan.upstream_keys.len(), MAX_UPSTREAM_KEYS)?;
    at_most("roots", plan.roots.len(), MAX_PATHS)?;
    at_most("references", references, MAX_REFERENCES)?;
    let attachments = plan.paths.iter().map(|path| path.realisations.len() + path.debug_info.len());
    at_most("realisations and debug files", attachments.sum(), MAX_ATTACHMENTS)?;
    if plan.roots.is_empty() {
        return Err(PlanRefused::NoRoots);
    }
    if let Some(root) = plan.roots.iter().find(|root| **root as usize >= plan.paths.len()) {
        return Err(PlanRefused::Root(*root));
    }
    check_paths(plan)?;
    let order = references_first(plan)?;
    // Every path was visited from a root, or it is not needed.
    if order.len() < plan.paths.len() {
        let mut needed = vec![false; plan.paths.len()];
        order.iter().for_each(|index| needed[*index as usize] = true);
        let unneeded = needed.iter().position(|needed| !needed).unwrap_or_default();
        return Err(PlanRefused::Unreachable(plan.paths[unneeded].path.clone()));
    }
    Ok(order)
}

/// How deep below the top each path lies, counted from below: a path is one above the highest of
/// its references. `order` is what [`check`] answered.
#[must_use]
pub fn levels(plan: &PlanRequest, order: &[u32]) -> Vec<u32> {
    let mut levels = vec![0; plan.paths.len()];
    for index in order {
        let references = plan.paths[*index as usize].references.iter().filter(|to| *to != index);
        let level = references.map(|to| levels[*to as usize] + 1).max().unwrap_or(0);
        levels[*index as usize] = level;
    }
    levels
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), PlanRefused> {
    if count > limit { Err(PlanRefused::TooMany { what, count, limit }) } else { Ok(()) }
}

fn check_paths(plan: &PlanRequest) -> Result<(), PlanRefused> {
    let mut seen: HashMap<StorePathHash, ()> = HashMap::with_capacity(plan.paths.len());
    // Which path last named a reference: finds duplicates without a set for each path.
    let mut named_by = vec![u32::MAX; plan.paths.len()];
    for (number, path) in plan.paths.iter().enumerate() {
        let too_many = |what, count, limit| {
            let path = path.path.clone();
            Err(PlanRefused::TooManyOf { path, what, count, limit })
        };
        if seen.insert(path.path.hash(), ()).is_some() {
            return Err(PlanRefused::Duplicate(path.path.clone()));
        }
        if path.references.len() > MAX_REFERENCES_PER_PATH {
            return too_many("references", path.references.len(), MAX_REFERENCES_PER_PATH);
        }
        if path.signatures.len() > MAX_SIGNATURES_PER_PATH {
            return too_many("signatures", path.signatures.len(), MAX_SIGNATURES_PER_PATH);
        }
        let (count, limit) = (path.realisations.len(), MAX_REALISATIONS_PER_PATH);
        if count > limit {
            return too_many("realisations", count, limit);
        }
        for realisation in &path.realisations {
            let (count, limit) = (realisation.dependencies.len(), MAX_DEPENDENCIES_PER_REALISATION);
            if count > limit {
                return too_many("outputs in a realisation", count, limit);
            }
            if realisation.signatures.len() > MAX_SIGNATURES_PER_PATH {
                let count = realisation.signatures.len();
                return too_many("signatures of a realisation", count, MAX_SIGNATURES_PER_PATH);
            }
        }
        if path.debug_info.len() > MAX_DEBUG_FILES_PER_PATH {
            return too_many("debug files", path.debug_info.len(), MAX_DEBUG_FILES_PER_PATH);
        }
        if path.nar_size == 0 {
            return Err(PlanRefused::EmptyNar(path.path.clone()));
        }
        if i64::try_from(path.nar_size).is_err() {
            return Err(PlanRefused::HugeNar(path.path.clone()));
        }
        for index in &path.references {
            let Some(last) = named_by.get_mut(*index as usize) else {
                return Err(PlanRefused::NotClosed { path: path.path.clone(), index: *index });
            };
            if *last == number as u32 {
                let to = plan.paths[*index as usize].path.clone();
                return Err(PlanRefused::DuplicateReference { path: path.path.clone(), to });
            }
            *last = number as u32;
        }
        let names = path.references.iter().map(|to| &plan.paths[*to as usize].path);
        let bytes = names.map(|to| to.name().len() + 34).sum::<usize>()
            + path.signatures.iter().map(|text| text.to_string().len() + 6).sum::<usize>();
        if bytes > MAX_PATH_TEXT_BYTES {
            return too_many("bytes of references and signatures", bytes, MAX_PATH_TEXT_BYTES);
        }
    }
    Ok(())
}

/// Depth first from the roots, without recursion: a chain of 100,000 references is no stack
/// overflow. Every reference is in range: [`check_paths`] has looked.
fn references_first(plan: &PlanRequest) -> Result<Vec<u32>, PlanRefused> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Open,
        Done,
    }
    let mut visits = vec![Visit::Not; plan.paths.len()];
    let mut order = Vec::with_capacity(plan.paths.len());
    // A path and how many of its references have been looked at.
    let mut open: Vec<(u32, usize)> = Vec::new();
    for root in &plan.roots {
        if visits[*root as usize] == Visit::Not {
            visits[*root as usize] = Visit::Open;
            open.push((*root, 0));
        }
        while let Some((path, next)) = open.last_mut() {
            let (at, references) = (*path, &plan.paths[*path as usize].references);
            match references.get(*next).copied() {
                Some(to) => {
                    *next += 1;
                    match visits[to as usize] {
                        Visit::Not => {
                            visits[to as usize] = Visit::Open;
                            open.push((to, 0));
                        }
                        Visit::Open if to != at => {
                            return Err(PlanRefused::Cycle(plan.paths[to as usize].path.clone()));
                        }
                        Visit::Open | Visit::Done => {}
                    }
                }
                None => {
                    visits[at as usize] = Visit::Done;
                    order.push(at);
                    open.pop();
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PlannedPath;

    /// A plan whose path number n has the references `references[n]`; the last one is the root.
    fn plan(references: &[&[u32]]) -> PlanRequest {
        let nar_hash = "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h";
        let paths = references.iter().enumerate().map(|(n, references)| PlannedPath {
            path: format!("{n:032}-p").parse().unwrap(),
            nar_hash: nar_hash.parse().unwrap(),
            nar_size: 112,
            references: references.to_vec(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            log: false,
            realisations: Vec::new(),
            debug_info: Vec::new(),
        });
        let paths: Vec<_> = paths.collect();
        let roots = vec![paths.len() as u32 - 1];
        PlanRequest {
            store_dir: "/nix/store".to_owned(),
            roots,
            paths,
            dry_run: false,
            upstream_keys: Vec::new(),
        }
    }

    fn checked(plan: &PlanRequest) -> Result<Vec<u32>, PlanRefused> {
        check(plan, &StoreDir::default())
    }

    fn path(plan: &PlanRequest, number: usize) -> StorePath {
        plan.paths[number].path.clone()
    }

    #[test]
    fn references_come_before_what_refers_to_them() {
        // 3 is the root, 1 and 2 need 0, 1 refers to itself too.
        let order = checked(&plan(&[&[], &[0, 1], &[0], &[2, 1]])).unwrap();
        let at = |n: u32| order.iter().position(|x| *x == n).unwrap();
        assert!(at(0) < at(1) && at(0) < at(2) && at(1) < at(3) && at(2) < at(3));
    }

    #[test]
    fn a_path_is_one_level_above_its_highest_reference() {
        let plan = plan(&[&[], &[0, 1], &[0], &[2, 1], &[0, 3]]);
        let order = checked(&plan).unwrap();
        assert_eq!(levels(&plan, &order), [0, 1, 1, 2, 3]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_is_no_trouble() {
        let links: Vec<Vec<u32>> =
            (0..100_000).map(|n: u32| n.checked_sub(1).into_iter().collect()).collect();
        let links: Vec<&[u32]> = links.iter().map(Vec::as_slice).collect();
        assert_eq!(checked(&plan(&links)).unwrap().len(), 100_000);
    }

    #[test]
    fn what_is_no_closure_is_refused() {
        let open = plan(&[&[7]]);
        assert_eq!(checked(&open), Err(PlanRefused::NotClosed { path: path(&open, 0), index: 7 }));
        let cycle = plan(&[&[1], &[0], &[1]]);
        assert!(matches!(checked(&cycle), Err(PlanRefused::Cycle(_))));
        let unneeded = plan(&[&[], &[], &[1]]);
        assert_eq!(checked(&unneeded), Err(PlanRefused::Unreachable(path(&unneeded, 0))));
        let twice = plan(&[&[], &[0, 0]]);
        assert!(matches!(checked(&twice), Err(PlanRefused::DuplicateReference { .. })));
        let mut same = plan(&[&[], &[0]]);
        same.paths[0].path = path(&same, 1);
        assert_eq!(checked(&same), Err(PlanRefused::Duplicate(path(&same, 1))));
        let mut rootless = plan(&[&[]]);
        rootless.roots.clear();
        assert_eq!(checked(&rootless), Err(PlanRefused::NoRoots));
        rootless.roots.push(1);
        assert_eq!(checked(&rootless), Err(PlanRefused::Root(1)));
        let mut empty = plan(&[&[]]);
        empty.paths[0].nar_size = 0;
        assert_eq!(checked(&empty), Err(PlanRefused::EmptyNar(path(&empty, 0))));
        empty.paths[0].nar_size = u64::MAX;
        assert_eq!(checked(&empty), Err(PlanRefused::HugeNar(path(&empty, 0))));
    }

    #[test]
    fn another_store_directory_is_refused_with_both_names() {
        let mut other = plan(&[&[]]);
        other.store_dir = "/home/me/store".to_owned();
        let text = checked(&other).unwrap_err().to_string();
        assert!(text.contains("/nix/store") && text.contains("/home/me/store"), "{text}");
    }

    #[test]
    fn every_limit_holds() {
        let many: Vec<u32> = (0..MAX_REFERENCES_PER_PATH as u32 + 1).collect();
        let mut references: Vec<&[u32]> = vec![&[]; MAX_REFERENCES_PER_PATH + 1];
        references.push(&many);
        let text = checked(&plan(&references)).unwrap_err().to_string();
        assert!(text.contains("10001 references, the limit is 10000"), "{text}");

        let mut signed = plan(&[&[]]);
        let signature = format!("k:{}==", "A".repeat(86));
        signed.paths[0].signatures = vec![signature.parse().unwrap(); MAX_SIGNATURES_PER_PATH + 1];
        assert!(matches!(checked(&signed), Err(PlanRefused::TooManyOf { .. })));

        // 9,000 names of 200 characters are more than a narinfo may have.
        let some: Vec<u32> = (0..9000).collect();
        let mut references: Vec<&[u32]> = vec![&[]; 9000];
        references.push(&some);
        let mut wordy = plan(&references);
        for (n, path) in wordy.paths.iter_mut().enumerate() {
            path.path = format!("{n:032}-{}", "p".repeat(200)).parse().unwrap();
        }
        let text = checked(&wordy).unwrap_err().to_string();
        assert!(text.contains("bytes of references and signatures"), "{text}");

        let references: Vec<&[u32]> = vec![&[]; MAX_PATHS + 1];
        assert!(matches!(checked(&plan(&references)), Err(PlanRefused::TooMany { .. })));

        let all: Vec<u32> = (0..MAX_REFERENCES_PER_PATH as u32).collect();
        let references: Vec<&[u32]> = vec![&all; MAX_REFERENCES / MAX_REFERENCES_PER_PATH + 1];
        let text = checked(&plan(&references)).unwrap_err().to_string();
        assert!(text.contains("references, the limit is 4000000"), "{text}");
    }
}
