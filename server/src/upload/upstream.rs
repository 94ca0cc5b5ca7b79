//! Paths that are left to another cache, since that has signed them.

use niks3_core::{
    narinfo::fingerprint, signing::PublicKey, store_path::StoreDir, wire::PlanRequest,
};

/// Which of the plan's paths one of `keys` has signed, or of the keys that the plan names. Takes some 50 µs
/// for each path with a signature by one of that name.
pub(super) fn external(plan: &PlanRequest, store_dir: &StoreDir, keys: &[PublicKey]) -> Vec<bool> {
    let keys: Vec<&PublicKey> = keys.iter().chain(&plan.upstream_keys).collect();
    let path = |index: &usize| &plan.paths[*index];
    (0..plan.paths.len())
        .map(|index| {
            let planned = path(&index);
            if keys.is_empty() || planned.signatures.is_empty() {
                return false;
            }
            let references = planned.references.iter().map(|to| &plan.paths[*to as usize].path);
            let (hash, size) = (planned.nar_hash, planned.nar_size);
            let signed = fingerprint(store_dir, &planned.path, hash, size, references);
            signed.is_some_and(|text| {
                let by =
                    |key: &&PublicKey| planned.signatures.iter().any(|s| key.verifies(&text, s));
                keys.iter().any(by)
            })
        })
        .collect()
}
