//! Bodies that are sent in chunks, more than once if need be, and watched while they are.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::pack;

/// How long nothing of a body may be taken, or no answer come after it, before a try is given up:
/// a connection that is dead without saying so.
pub(super) const STALL_TIME: Duration = Duration::from_secs(60);

/// Bytes that are handed to the connection at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A body that can be sent more than once.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// In memory.
    Memory(Bytes),
    /// In a temporary file.
    File(Arc<File>),
}

impl From<pack::Body> for Body {
    fn from(body: pack::Body) -> Self {
        match body {
            pack::Body::Memory(bytes) => Self::Memory(bytes.into()),
            pack::Body::File(file) => Self::File(Arc::new(file)),
        }
    }
}

pub(super) type Chunks = std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Body {
    pub(super) fn chunks(&self) -> Chunks {
        match self {
            Self::Memory(bytes) => {
                let mut rest = bytes.clone();
                Box::pin(stream::iter(std::iter::from_fn(move || {
                    let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
                    (!chunk.is_empty()).then_some(Ok(chunk))
                })))
            }
            Self::File(file) => Box::pin(from_the_start(Arc::clone(file))),
        }
    }
}

/// The file's bytes. Read by position: an earlier try may still be reading, and an offset would be
/// shared with it.
fn from_the_start(file: Arc<File>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(0, move |offset| {
        let file = Arc::clone(&file);
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; CHUNK_BYTES];
                let bytes = file.read_at(&mut chunk, offset)?;
                chunk.truncate(bytes);
                Ok::<_, io::Error>(chunk)
            });
            let chunk = read.await.map_err(io::Error::other)??;
            let next = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), next)))
        }
    })
}

/// Sees whether a body moves.
pub(super) struct Watch {
    started: Instant,
    /// When a chunk was last taken, in milliseconds from the start.
    moved_ms: Arc<AtomicU64>,
}

impl Watch {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), moved_ms: Arc::default() }
    }

    pub(super) fn over(
        &self,
        chunks: Chunks,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (started, moved_ms) = (self.started, Arc::clone(&self.moved_ms));
        chunks.inspect(move |_| {
            moved_ms.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        })
    }

    pub(super) async fn stalled(&self) {
        loop {
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let until = moved + STALL_TIME;
            match until.checked_sub(self.started.elapsed()) {
                Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_comes_in_chunks_from_memory_and_from_a_file_the_same() {
        use std::io::Write as _;
        let bytes = Bytes::from(vec![7; CHUNK_BYTES * 2 + 5]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        for body in [Body::Memory(bytes.clone()), Body::File(Arc::new(file))] {
            // Twice: a try that failed has taken nothing away.
            for _ in 0..2 {
                let chunks: Vec<_> = body.chunks().map(Result::unwrap).collect().await;
                assert_eq!(chunks.len(), 3);
                assert_eq!(chunks.concat(), bytes);
            }
        }
    }
}
