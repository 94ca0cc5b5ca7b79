//! A program that prints the token.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use super::MAX_TOKEN_BYTES;

/// How long it may take: it may ask a server of its own.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why a script gave no token. Never contains what it printed.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is not there, or no program.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// Its output or its end.
    #[error("its output cannot be read")]
    Read(#[source] io::Error),
    /// It failed.
    #[error("it ended with {0}")]
    Failed(ExitStatus),
    /// It takes too long.
    #[error("it did not end within {} s", TIME_LIMIT.as_secs())]
    TimedOut,
    /// It prints too much.
    #[error("it printed more than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
}

/// Runs it, without a shell and without arguments, and answers what it printed. Its standard error
/// is ours. It is killed when it takes too long, or nobody waits for it any more.
pub(super) async fn run(script: &Path) -> Result<Vec<u8>, ScriptError> {
    run_within(script, TIME_LIMIT).await
}

async fn run_within(script: &Path, limit: Duration) -> Result<Vec<u8>, ScriptError> {
    // A file, as the flag says: a bare name is not looked for on the PATH.
    let program = std::path::absolute(script).map_err(ScriptError::Start)?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(ScriptError::Start)?;
    let work = async {
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = stdout.take(MAX_TOKEN_BYTES + 1);
            stdout.read_to_end(&mut output).await.map_err(ScriptError::Read)?;
        }
        if output.len() as u64 > MAX_TOKEN_BYTES {
            return Err(ScriptError::TooLong);
        }
        let status = child.wait().await.map_err(ScriptError::Read)?;
        if status.success() { Ok(output) } else { Err(ScriptError::Failed(status)) }
    };
    timeout(limit, work).await.unwrap_or(Err(ScriptError::TimedOut))
}

#[cfg(test)]
pub(in crate::api) mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Writes a script. Another process does, and closes it: one that is open for writing cannot be
    /// started, and a test that forks at the wrong moment would inherit it.
    pub(in crate::api) fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
        let mut sh = std::process::Command::new("sh");
        assert!(sh.args(["-c", write]).arg(&path).arg(text).status().unwrap().success());
        path
    }

    #[tokio::test]
    async fn what_a_script_prints_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "token", "echo secret; echo $# arguments; cat");
        assert_eq!(run(&path).await.unwrap(), b"secret\n0 arguments\n");
    }

    #[tokio::test]
    async fn a_script_that_fails_is_told_without_what_it_printed() {
        let dir = tempfile::tempdir().unwrap();
        let failed = run(&script(dir.path(), "fails", "echo hunter2; exit 3")).await.unwrap_err();
        assert_eq!(failed.to_string(), "it ended with exit status: 3");
        let long = script(dir.path(), "long", "head -c 20000 /dev/zero | tr '\\0' x");
        let long = run(&long).await.unwrap_err();
        assert_eq!(long.to_string(), "it printed more than 16384 bytes");
        let missing = run(&dir.path().join("none")).await.unwrap_err();
        assert!(matches!(missing, ScriptError::Start(_)), "{missing}");
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let text = format!("echo $$ > {}; exec sleep 600", pid.display());
        let path = script(dir.path(), "hangs", &text);
        let hung = run_within(&path, Duration::from_millis(1500)).await.unwrap_err();
        assert!(matches!(hung, ScriptError::TimedOut), "{hung}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        // Gone, or about to be reaped.
        for _ in 0..200 {
            match std::fs::read_to_string(&status) {
                Ok(stat) if !stat.contains(") Z") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => return,
            }
        }
        panic!("it still runs");
    }
}
