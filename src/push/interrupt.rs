//! Being told to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Ready when the person presses Ctrl-C, or a CI system cancels the job (SIGTERM). Each call waits for
/// a signal of its own.
pub(super) async fn interrupted() {
    let ended = async {
        match signal(SignalKind::terminate()) {
            Ok(mut ended) => ended.recv().await,
            // Not heard: then it ends us as it ends every program.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = ended => {}
    }
}
