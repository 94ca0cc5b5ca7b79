//! Temporary roots: what the garbage collection of the local store leaves alone while a push runs.
//!
//! Asked of Nix's daemon, over its socket: it keeps what a connection asks for until that is closed, and
//! it knows how to tell a collection that is under way. The files in `temproots/` behind it are left to
//! Nix: see `docs/decisions/temp-roots.md`.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use niks3_core::store_path::StorePath;
use tracing::debug;

use super::StoreSettings;

/// How long registering may take, all roots together: one takes less than a millisecond. A daemon that
/// is in the middle of a collection is slower.
const TIME: Duration = Duration::from_secs(10);

/// What a client says first, and what the daemon answers.
/// <https://nix.dev/manual/nix/latest/protocols/>, `src/libstore/worker-protocol.hh`
const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;

/// The version that we say we speak: 1.32, that of Nix 2.4. From 1.33 on the daemon says more at the
/// beginning. Adding a root has been the same since 1.0.
const VERSION: u64 = (1 << 8) | 32;

/// Older daemons end a connection with 1.32 in another way; none that is in use does.
const OLDEST_DAEMON: u64 = (1 << 8) | 14;

const ADD_TEMP_ROOT: u64 = 11;

/// What is said before the answer: a line for the log, or that there are no more.
const LOG_LINE: u64 = 0x6f6c_6d67;
const LOG_ENDS: u64 = 0x616c_7473;

/// Bytes of a line for the log.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// Roots that a daemon keeps until this is dropped.
#[derive(Debug)]
pub struct TempRoots {
    _connection: Option<UnixStream>,
}

impl TempRoots {
    /// Keeps `roots` and all that they need, as far as there is a daemon that does it. A push can do
    /// without, so failing is a line in the log and no error.
    #[must_use]
    pub fn keep(settings: &StoreSettings, roots: &[StorePath]) -> Self {
        let paths = roots.iter().map(|root| root.absolute(&settings.store_dir));
        let _connection = match register(&settings.daemon_socket, paths) {
            Ok(connection) => {
                debug!(
                    roots = roots.len(),
                    "the local store keeps what is pushed until that is done"
                );
                Some(connection)
            }
            Err(error) => {
                let socket = settings.daemon_socket.display();
                debug!(%error, %socket, "the local store may collect what is pushed meanwhile");
                None
            }
        };
        Self { _connection }
    }
}

fn register(socket: &Path, paths: impl Iterator<Item = String>) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    let mut daemon = Daemon { stream, deadline: Instant::now() + TIME };
    daemon.greet()?;
    for path in paths {
        daemon.add(&path)?;
    }
    Ok(daemon.stream)
}

struct Daemon {
    stream: UnixStream,
    deadline: Instant,
}

impl Daemon {
    fn greet(&mut self) -> io::Result<()> {
        self.send(&CLIENT_MAGIC.to_le_bytes())?;
        if self.number()? != DAEMON_MAGIC {
            return Err(io::Error::other("it is no Nix daemon"));
        }
        let version = self.number()?;
        // The upper byte is 1 in every version that there is.
        if version >> 8 != 1 || version < OLDEST_DAEMON {
            return Err(io::Error::other(format!("it speaks version {version:#x}")));
        }
        // No processor is preferred, and no space reserved: both are read and not used.
        let words = [VERSION, 0, 0];
        self.send(&words.map(u64::to_le_bytes).concat())?;
        self.log()
    }

    fn add(&mut self, path: &str) -> io::Result<()> {
        let mut message = ADD_TEMP_ROOT.to_le_bytes().to_vec();
        message.extend((path.len() as u64).to_le_bytes());
        message.extend(path.as_bytes());
        message.resize(message.len().next_multiple_of(8), 0);
        self.send(&message)?;
        self.log()?;
        // Always 1.
        self.number().map(drop)
    }

    /// Reads what comes before an answer.
    fn log(&mut self) -> io::Result<()> {
        loop {
            match self.number()? {
                LOG_ENDS => return Ok(()),
                LOG_LINE => {
                    let bytes = self.number()?;
                    if bytes > MAX_LINE_BYTES {
                        return Err(io::Error::other(format!("a line of {bytes} bytes")));
                    }
                    let mut line = vec![0; (bytes as usize).next_multiple_of(8)];
                    self.receive(&mut line)?;
                }
                // An error of it, or news of what it is about, which it has no reason to send.
                other => return Err(io::Error::other(format!("it answered {other:#x}"))),
            }
        }
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.receive(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.set_read_timeout(Some(self.rest()?))?;
        self.stream.read_exact(bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.rest()?))?;
        self.stream.write_all(bytes)
    }

    fn rest(&self) -> io::Result<Duration> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(rest) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is said to a client, and what becomes of its one root.
    fn answered(words: &[u64]) -> io::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let said: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The client may be gone before the last word.
            let _ = stream.write_all(&said);
            // Nothing more is to come.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let registered = register(&socket, ["/nix/store/a".to_owned()].into_iter()).map(drop);
        daemon.join().unwrap();
        registered
    }

    #[test]
    fn a_daemon_of_any_version_of_1_keeps_a_root_and_what_it_logs_is_passed_over() {
        for version in [0x10e, 0x122, 0x126, 0x1ff] {
            let words = [DAEMON_MAGIC, version, LOG_ENDS, LOG_LINE, 3, 0, LOG_ENDS, 1];
            answered(&words).unwrap();
        }
    }

    #[test]
    fn what_is_no_daemon_or_refuses_is_an_error() {
        let error = 0x6378_7470;
        for words in [
            &[][..],
            &[0],
            &[DAEMON_MAGIC],
            &[DAEMON_MAGIC, 0x200, LOG_ENDS],
            &[DAEMON_MAGIC, 0x122, error],
            &[DAEMON_MAGIC, 0x122, LOG_LINE, u64::MAX],
            &[DAEMON_MAGIC, 0x122, LOG_ENDS, error],
        ] {
            assert!(answered(words).is_err(), "{words:x?}");
        }
        assert!(register(Path::new("/no/such/socket"), std::iter::empty()).is_err());
    }
}
