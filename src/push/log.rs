//! Build logs: optional. What goes wrong with one is worth a warning, not the push.

use niks3_core::wire::ObjectSpec;
use tokio::task::JoinError;

use super::{PushError, body::Body, deliver::deliver_optional, plan::LogWork, upload::Job};
use crate::{
    nix::BuildLog,
    pack::{LogError, MAX_BODY_IN_MEMORY, PackedLog, compressor_bytes, pack_log},
};

/// Logs in progress. What they take has bounds of its own.
pub(super) const AT_ONCE: usize = 32;

/// Sends the log of a derivation. It may be gone by now, or be written anew by another build.
pub(super) async fn send(job: &Job<'_>, log: LogWork) -> Result<(), PushError> {
    let warn = |why: &str| {
        job.cx.progress.warn(&format!("the build log of {} is not sent: {why}", log.derivation));
    };
    let Some(found) = BuildLog::find(&job.cx.store.settings().log_dir, &log.derivation) else {
        warn("it is gone");
        return Ok(());
    };
    let core = job.cores(1).await;
    let compressor = compressor_bytes(job.cx.options.level, 0) + BuildLog::READER_BYTES;
    let compressing = job.memory.compressors.reserve(compressor).await;
    let mut reserved = job.memory.bodies.reserve(MAX_BODY_IN_MEMORY as u64).await;
    let (encoding, options) = (job.open.metadata_encoding, job.pack_options());
    let (file, cancel) = (found.file().to_owned(), job.cancel());
    let packed = tokio::task::spawn_blocking(move || {
        let _held = (core, compressing);
        let mut text = found.open().map_err(LogError::Read)?;
        pack_log(&mut text, encoding, &options, &cancel)
    });
    let packed: Result<Result<PackedLog, LogError>, JoinError> = packed.await;
    let packed = match packed.map_err(PushError::Task)? {
        Ok(packed) => packed,
        Err(error) => {
            let source = std::error::Error::source(&error);
            let cause = source.map(|source| format!(" ({source})")).unwrap_or_default();
            warn(&format!("{error}: {}{cause}", file.display()));
            return Ok(());
        }
    };
    if let Some(reserved) = &mut reserved {
        reserved.shrink_to(packed.bytes);
    }
    let PackedLog { body, bytes, checksum } = packed;
    let spec = ObjectSpec::Log { path: log.path, bytes, checksum };
    let shown = || format!("the build log of {}", log.derivation);
    if deliver_optional(job, spec, &Body::from(body), shown).await {
        job.cx.progress.log_sent();
    }
    Ok(())
}
