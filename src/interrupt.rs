//! Being told to stop.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Counts how often the person pressed Ctrl-C, or a CI system cancelled the job (SIGTERM). One for the
/// whole process, from its beginning: what comes while nobody waits is not lost.
pub struct Interrupts(watch::Receiver<usize>);

impl Interrupts {
    /// Begins to listen. Signals do not end the process by themselves any more.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn listen() -> io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(counted))
    }

    /// Ready when there have been `count` of them.
    pub async fn reach(&self, count: usize) {
        let mut counted = self.0.clone();
        let reached = counted.wait_for(|counted| *counted >= count).await.is_ok();
        if !reached {
            // Nobody listens any more: the process is about to end.
            std::future::pending::<()>().await;
        }
    }
}
