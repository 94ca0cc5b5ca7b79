//! Stops the PostgreSQL of a run that could not do so itself, since it was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, kill_process, test_kill_process};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::{PAUSE, PostgresError, SHUTDOWN, SOCKET_PREFIX, SOCKET_ROOT};

/// Lines of `postmaster.pid`, as in PostgreSQL's `src/include/utils/pidfile.h`, from 0.
const PID_LINE: usize = 0;
const SOCKET_DIR_LINE: usize = 4;

/// Stops what runs on `data_dir`, and clears away its socket. The caller holds the folder's lock:
/// whatever still runs there belongs to nobody.
///
/// Without `/proc` it leaves the process alone; PostgreSQL then refuses to start, and says why.
pub(super) async fn stop(data_dir: &Path) -> Result<(), PostgresError> {
    let pid_file = data_dir.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let line = |number| text.lines().nth(number).unwrap_or_default().trim();
    let Some(pid) = line(PID_LINE).parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
    else {
        return Ok(());
    };
    if is_postmaster_of(pid, data_dir) {
        let (pid_number, data_dir_shown) = (pid.as_raw_nonzero().get(), data_dir.display());
        info!(pid = pid_number, data_dir = %data_dir_shown, "stopping a PostgreSQL left behind");
        end(pid, data_dir).await?;
    } else if Path::new("/proc/self").exists() && test_kill_process(pid).is_ok() {
        // The number is another process's by now, as after a reboot. PostgreSQL would take that
        // for a running server and refuse to start.
        fs::remove_file(&pid_file).map_err(PostgresError::io("remove", &pid_file))?;
    }
    let socket_dir = PathBuf::from(line(SOCKET_DIR_LINE));
    if is_ours(&socket_dir)
        && let Err(error) = fs::remove_dir_all(&socket_dir)
    {
        debug!(%error, socket_dir = %socket_dir.display(), "no socket to clear away");
    }
    Ok(())
}

async fn end(pid: Pid, data_dir: &Path) -> Result<(), PostgresError> {
    for (signal, bound) in SHUTDOWN {
        if let Err(error) = kill_process(pid, signal) {
            debug!(%error, "cannot signal it, perhaps it has just ended");
        }
        if ended_within(bound, pid, data_dir).await {
            return Ok(());
        }
        warn!(signal = ?signal, waited_s = bound.as_secs(), "PostgreSQL does not stop");
    }
    let pid = pid.as_raw_nonzero().get();
    Err(PostgresError::LeftOver { data_dir: data_dir.to_owned(), pid })
}

async fn ended_within(bound: Duration, pid: Pid, data_dir: &Path) -> bool {
    let asked = Instant::now();
    while is_postmaster_of(pid, data_dir) {
        if asked.elapsed() > bound {
            return false;
        }
        sleep(PAUSE).await;
    }
    true
}

/// Whether the process is a PostgreSQL server, which has its data folder as working directory. A
/// zombie has none: it has ended.
fn is_postmaster_of(pid: Pid, data_dir: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let works_in = fs::read_link(process.join("cwd"));
    name.trim().contains("postgres") && works_in.is_ok_and(|folder| folder == data_dir)
}

/// Whether a folder is one that we made for a socket: nothing else is ever removed.
fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    folder.parent() == Some(Path::new(SOCKET_ROOT))
        && name.is_some_and(|name| name.starts_with(SOCKET_PREFIX))
}
