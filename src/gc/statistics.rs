//! What a run has done, in words and numbers.

use std::fmt::Write as _;

use niks3_core::{
    store_path::{StoreDir, StorePath},
    wire::{CacheSize, CollectPhase, CollectProgress, CollectStatus, Collection, Garbage},
};

use crate::text::{human_bytes, plural};

/// How a run comes along, in one line.
#[must_use]
pub(super) fn line(run: &Collection) -> String {
    let progress = &run.progress;
    let (step, doing) = match progress.phase {
        CollectPhase::FailedUploads => {
            (1, format!("failed uploads: {}", progress.failed_uploads_deleted))
        }
        CollectPhase::OldClosures => {
            (2, format!("old closures: {}", progress.old_closures_deleted))
        }
        CollectPhase::Condemn => (
            3,
            format!(
                "marked for deletion: {}, {}",
                objects(progress.objects_marked_for_deletion),
                human_bytes(progress.bytes_marked)
            ),
        ),
        CollectPhase::Delete => (
            4,
            format!(
                "deleted: {}, {}{}",
                objects(progress.objects_deleted_after_grace_period),
                human_bytes(progress.bytes_freed),
                match progress.objects_failed_to_delete {
                    0 => String::new(),
                    failed => format!(", and {failed} failed"),
                }
            ),
        ),
    };
    let what = if run.parameters.dry_run { "dry run" } else { "garbage collection" };
    format!("{what} {}, {step} of 4, {doing}", run.number)
}

/// The statistics at the end of a run, one a line, and what a dry run has found.
#[must_use]
pub fn text(status: &CollectStatus, store_dir: &StoreDir) -> String {
    let Some(run) = &status.collection else { return String::new() };
    let CollectProgress {
        phase: _,
        failed_uploads_deleted,
        old_closures_deleted,
        objects_marked_for_deletion,
        objects_deleted_after_grace_period,
        objects_failed_to_delete,
        objects_spared,
        bytes_freed,
        bytes_marked,
        largest,
    } = &run.progress;
    let CacheSize { objects: cache_objects, bytes: cache_bytes } = status.cache;
    let mut text = String::new();
    let mut put = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    };
    let bytes = |bytes: u64| format!("{bytes} ({})", human_bytes(bytes));
    put("failed-uploads-deleted", failed_uploads_deleted.to_string());
    put("old-closures-deleted", old_closures_deleted.to_string());
    put("objects-marked-for-deletion", objects_marked_for_deletion.to_string());
    put("bytes-marked", bytes(*bytes_marked));
    put("objects-deleted-after-grace-period", objects_deleted_after_grace_period.to_string());
    put("bytes-freed", bytes(*bytes_freed));
    put("objects-failed-to-delete", objects_failed_to_delete.to_string());
    put("objects-spared", objects_spared.to_string());
    put("objects-in-cache", cache_objects.to_string());
    put("bytes-in-cache", bytes(cache_bytes));
    if !largest.is_empty() {
        text.push_str("largest:\n");
    }
    for garbage in largest {
        let _ = writeln!(text, "{:>10}  {}", human_bytes(garbage.bytes), name(garbage, store_dir));
    }
    text
}

/// A path says more to a person than a key.
fn name(garbage: &Garbage, store_dir: &StoreDir) -> String {
    match garbage.store_path.as_deref().map(str::parse::<StorePath>) {
        Some(Ok(path)) => path.absolute(store_dir),
        Some(Err(_)) | None => garbage.key.to_string(),
    }
}

/// What the person should know at the end, beside the numbers.
#[must_use]
pub fn warning(run: &Collection) -> Option<String> {
    let failed = run.progress.objects_failed_to_delete;
    (failed > 0).then(|| {
        let objects = objects(failed);
        format!("S3 did not delete {objects}: the next run tries again, the server's log says more")
    })
}

/// How much was spared since somebody can write it; with `--force` also that nothing was.
#[must_use]
pub fn spared(run: &Collection) -> Option<String> {
    match run.progress.objects_spared {
        0 if run.parameters.force => {
            Some("spared: nothing; nobody may be writing any of the garbage at this moment".into())
        }
        0 => None,
        count => Some(format!(
            "spared: {} that somebody may be writing at this moment; a later run deletes what is \
             garbage then",
            objects(count)
        )),
    }
}

fn objects(count: u64) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), "object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> CollectStatus {
        let text = include_str!("../../core/tests/golden/collect-status-dry-run.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_statistics_have_their_known_names_and_a_dry_run_names_the_largest() {
        let text = text(&status(), &StoreDir::default());
        assert_eq!(
            text,
            "failed-uploads-deleted: 0\n\
             old-closures-deleted: 1\n\
             objects-marked-for-deletion: 2\n\
             bytes-marked: 8388708 (8.4 MB)\n\
             objects-deleted-after-grace-period: 0\n\
             bytes-freed: 0 (0 B)\n\
             objects-failed-to-delete: 0\n\
             objects-spared: 0\n\
             objects-in-cache: 120000\n\
             bytes-in-cache: 9876543210 (9.9 GB)\n\
             largest:\n    \
             8.4 MB  /nix/store/4ml2s260zpvzdqanvhnk8pr4r9dj5k1k-multi\n     \
             100 B  4ml2s260zpvzdqanvhnk8pr4r9dj5k1k.ls\n"
        );
    }

    #[test]
    fn a_line_says_what_a_run_is_at() {
        let mut run = status().collection.unwrap();
        run.parameters.dry_run = false;
        run.progress.objects_deleted_after_grace_period = 1;
        assert_eq!(line(&run), "garbage collection 9, 4 of 4, deleted: 1 object, 0 B");
        run.progress.objects_failed_to_delete = 3;
        assert!(line(&run).ends_with("0 B, and 3 failed"));
        run.progress.phase = CollectPhase::Condemn;
        run.parameters.dry_run = true;
        assert_eq!(line(&run), "dry run 9, 3 of 4, marked for deletion: 2 objects, 8.4 MB");
    }

    #[test]
    fn what_was_not_deleted_is_said_and_with_force_always_what_was_spared() {
        let mut run = status().collection.unwrap();
        assert_eq!((warning(&run), spared(&run)), (None, None));
        run.progress.objects_failed_to_delete = 2;
        assert!(warning(&run).unwrap().contains("did not delete 2 objects"));
        run.parameters.force = true;
        assert!(spared(&run).unwrap().contains("nothing"));
        run.progress.objects_spared = 1;
        assert!(spared(&run).unwrap().contains("1 object that"));
    }
}
