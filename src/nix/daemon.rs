//! What the database would tell, asked of `nix`: for stores that only the daemon may look into,
//! and for flake references, which only Nix understands.
//!
//! Kept to what Nix 2.8, 2.26, 2.34 and Lix have in common.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    process::{Command, Stdio},
};

use niks3_core::store_path::{StorePath, StorePathError};
use serde_json::Value;

use super::{
    PathInfoError, StoreSettings, ValidPath,
    path_info_json::{breadth_first, parse},
};

/// Arguments for one call: a tenth of what the smallest system allows (macOS: 1 MiB).
const PATHS_PER_CALL: usize = 1000;

/// Lines of what a failed `nix` printed that go into the error.
const STDERR_LINES: usize = 10;

/// Why `nix` gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NixCommandError {
    /// It is not installed, for one.
    #[error("cannot run {program:?}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}){}", after_colon(.stderr))]
    Failed {
        /// What was run, without the paths that it was asked about.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines that it printed. Nothing, if the person saw them as they came.
        stderr: String,
    },
    /// It printed something that we do not understand.
    #[error("cannot read the output of `{command}`")]
    PathInfo {
        /// What was run.
        command: String,
        /// What is wrong with it.
        #[source]
        source: PathInfoError,
    },
    /// It printed something that should be a store path.
    #[error("`{command}` printed {line:?}, which is no path in {store_dir}")]
    NotAPath {
        /// What was run.
        command: String,
        /// What it printed.
        line: String,
        /// Where the path should be.
        store_dir: String,
        /// What is wrong with it.
        #[source]
        source: StorePathError,
    },
    /// It printed JSON of a shape that we do not know.
    #[error("cannot read the output of `{command}`: {json}")]
    Json {
        /// What was run.
        command: String,
        /// The part that was not understood.
        json: String,
    },
    /// A closure that is none.
    #[error("`nix path-info --recursive` says nothing about {path}")]
    Incomplete {
        /// What is missing.
        path: StorePath,
    },
}

impl NixCommandError {
    /// What a person can do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Start { .. } => Some("install Nix, or put it into PATH".to_owned()),
            Self::PathInfo { source: PathInfoError::NotValid { .. }, .. } => {
                Some("build it first, for instance with `nix build`".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs `nix` on one store.
#[derive(Clone, Copy, Debug)]
pub struct NixCommand<'a> {
    settings: &'a StoreSettings,
}

/// Who sees what a program prints to its standard error.
enum Stderr {
    /// The error has it.
    Kept,
    /// The person, as it comes: builds take long.
    Shown,
}

impl<'a> NixCommand<'a> {
    /// For the store of `settings`.
    #[must_use]
    pub fn new(settings: &'a StoreSettings) -> Self {
        Self { settings }
    }

    /// As [`Store::closure`](super::Store::closure).
    ///
    /// # Errors
    /// When a root is not in the store, or `nix` fails.
    pub fn closure(&self, roots: &[StorePath]) -> Result<Vec<ValidPath>, NixCommandError> {
        // Nix 2.8 takes a derivation for its outputs unless told otherwise, and told otherwise it
        // takes an output for its derivation.
        let (derivations, others): (Vec<_>, Vec<_>) =
            roots.iter().partition(|root| root.is_derivation());
        let mut found = Vec::new();
        for (which, roots) in [(Some("--derivation"), derivations), (None, others)] {
            for chunk in roots.chunks(PATHS_PER_CALL) {
                let mut args = vec!["path-info", "--json", "--recursive"];
                args.extend(which);
                let paths = chunk.iter().map(|root| self.absolute(root));
                let json = self.nix("nix-command", &args, paths, Stderr::Kept)?;
                let paths = parse(&json, &self.settings.store_dir).map_err(|source| {
                    NixCommandError::PathInfo { command: self.described("nix", &args), source }
                })?;
                found.extend(paths);
            }
        }
        breadth_first(roots, found).map_err(|path| NixCommandError::Incomplete { path })
    }

    /// Every path of the store, sorted.
    ///
    /// # Errors
    /// When `nix` fails.
    pub fn all_paths(&self) -> Result<Vec<StorePath>, NixCommandError> {
        let args = ["path-info", "--all"];
        let lines = self.nix("nix-command", &args, [], Stderr::Kept)?;
        let mut paths = self.paths(&self.described("nix", &args), &lines)?;
        paths.sort();
        Ok(paths)
    }

    /// The outputs of a derivation that are in the store.
    ///
    /// # Errors
    /// When the derivation itself is not in the store, or `nix-store` fails.
    pub fn outputs_of(&self, derivation: &StorePath) -> Result<Vec<StorePath>, NixCommandError> {
        let args = ["--query", "--outputs"];
        let outputs = self.nix_store(&args, [self.absolute(derivation)])?;
        let mut outputs = self.paths(&self.described("nix-store", &args), &outputs)?;
        if outputs.is_empty() {
            return Ok(outputs);
        }
        let args = ["--check-validity", "--print-invalid"];
        let invalid = self.nix_store(&args, outputs.iter().map(|path| self.absolute(path)))?;
        let invalid = self.paths(&self.described("nix-store", &args), &invalid)?;
        outputs.retain(|output| !invalid.contains(output));
        Ok(outputs)
    }

    /// Builds what the installables name, and returns the outputs. What it prints meanwhile is
    /// shown to the person.
    ///
    /// # Errors
    /// When `nix build` fails.
    pub fn build(&self, installables: &[&str]) -> Result<Vec<StorePath>, NixCommandError> {
        // Not --print-out-paths: Nix 2.8 has no such thing.
        let args = ["build", "--json", "--no-link"];
        let texts = installables.iter().map(|&text| text.to_owned());
        let json = self.nix("nix-command flakes", &args, texts, Stderr::Shown)?;
        let command = self.described("nix", &args);
        let built: Option<Vec<Value>> = serde_json::from_slice(&json).ok();
        let json_error = |json: &str| {
            let json = json.chars().take(200).collect();
            NixCommandError::Json { command: command.clone(), json }
        };
        let built = built.ok_or_else(|| json_error(&String::from_utf8_lossy(&json)))?;
        let mut paths = BTreeSet::new();
        for entry in &built {
            let outputs = built_paths(entry).ok_or_else(|| json_error(&entry.to_string()))?;
            for output in outputs {
                paths.insert(self.path(&command, output)?);
            }
        }
        Ok(paths.into_iter().collect())
    }

    /// The derivations of what the installables name. Nothing is built.
    ///
    /// # Errors
    /// When `nix path-info` fails.
    pub fn derivations(&self, installables: &[&str]) -> Result<Vec<StorePath>, NixCommandError> {
        let args = ["path-info", "--derivation"];
        let texts = installables.iter().map(|&text| text.to_owned());
        let lines = self.nix("nix-command flakes", &args, texts, Stderr::Shown)?;
        self.paths(&self.described("nix", &args), &lines)
    }

    fn nix(
        &self,
        features: &str,
        args: &[&str],
        paths: impl IntoIterator<Item = String>,
        stderr: Stderr,
    ) -> Result<Vec<u8>, NixCommandError> {
        let mut command = Command::new(&self.settings.nix_program);
        command.args(["--extra-experimental-features", features]);
        self.run(command, self.described("nix", args), args, paths, stderr)
    }

    fn nix_store(
        &self,
        args: &[&str],
        paths: impl IntoIterator<Item = String>,
    ) -> Result<Vec<u8>, NixCommandError> {
        let command = Command::new(self.settings.nix_program.with_file_name("nix-store"));
        self.run(command, self.described("nix-store", args), args, paths, Stderr::Kept)
    }

    fn run(
        &self,
        mut command: Command,
        described: String,
        args: &[&str],
        paths: impl IntoIterator<Item = String>,
        stderr: Stderr,
    ) -> Result<Vec<u8>, NixCommandError> {
        command.args(args);
        if let Some(url) = &self.settings.store_url {
            command.args(["--store", url]);
        }
        command.args(paths).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(match stderr {
            Stderr::Kept => Stdio::piped(),
            Stderr::Shown => Stdio::inherit(),
        });
        let output = command.output().map_err(|source| NixCommandError::Start {
            program: PathBuf::from(command.get_program()),
            source,
        })?;
        if !output.status.success() {
            let (command, status) = (described, output.status.to_string());
            let stderr = last_lines(&String::from_utf8_lossy(&output.stderr));
            return Err(NixCommandError::Failed { command, status, stderr });
        }
        Ok(output.stdout)
    }

    fn described(&self, program: &str, args: &[&str]) -> String {
        let mut words = vec![program];
        words.extend(args);
        if let Some(url) = &self.settings.store_url {
            words.extend(["--store", url]);
        }
        words.join(" ")
    }

    fn absolute(&self, path: &StorePath) -> String {
        path.absolute(&self.settings.store_dir)
    }

    fn paths(&self, command: &str, lines: &[u8]) -> Result<Vec<StorePath>, NixCommandError> {
        let lines = String::from_utf8_lossy(lines);
        lines.split_whitespace().map(|line| self.path(command, line)).collect()
    }

    fn path(&self, command: &str, line: &str) -> Result<StorePath, NixCommandError> {
        StorePath::from_absolute(&self.settings.store_dir, line).map_err(|source| {
            let (command, line) = (command.to_owned(), line.to_owned());
            let store_dir = self.settings.store_dir.to_string();
            NixCommandError::NotAPath { command, line, store_dir, source }
        })
    }
}

/// The store paths in one entry of `nix build --json`: a path, `{"path": …}` (2.8), or
/// `{"drvPath": …, "outputs": {"out": …}}`. A path given to `nix build` is its own result.
fn built_paths(entry: &Value) -> Option<Vec<&str>> {
    if let Some(path) = entry.as_str().or_else(|| entry.get("path")?.as_str()) {
        return Some(vec![path]);
    }
    entry.get("outputs")?.as_object()?.values().map(Value::as_str).collect()
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(":\n{text}") }
}

fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A store whose `nix` and `nix-store` are shell scripts.
    fn with_script(folder: &tempfile::TempDir, script: &str) -> StoreSettings {
        for name in ["nix", "nix-store"] {
            let file = folder.path().join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut settings = StoreSettings::new(Some("/no/such/root"), |_| None).unwrap();
        settings.nix_program = folder.path().join("nix");
        settings
    }

    fn root() -> StorePath {
        "00000000000000000000000000000000-a".parse().unwrap()
    }

    #[test]
    fn the_error_has_the_last_lines_that_nix_printed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = with_script(&folder, "seq 100 >&2; echo \"error: $*\" >&2; exit 3");
        let error = NixCommand::new(&settings).closure(&[root()]).unwrap_err().to_string();
        let args = "--extra-experimental-features nix-command path-info --json --recursive \
                    --store /no/such/root /nix/store/00000000000000000000000000000000-a";
        assert!(error.ends_with(&format!("\n99\n100\nerror: {args}")), "{error}");
        assert!(error.contains("exit status: 3") && !error.contains("\n80\n"), "{error}");
    }

    #[test]
    fn a_missing_nix_and_a_talkative_one_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = with_script(&folder, "echo hello");
        let error = NixCommand::new(&settings).closure(&[root()]).unwrap_err();
        assert!(matches!(error, NixCommandError::PathInfo { .. }), "{error}");
        let error = NixCommand::new(&settings).all_paths().unwrap_err();
        assert!(matches!(error, NixCommandError::NotAPath { .. }), "{error}");
        let error = NixCommand::new(&settings).build(&["x"]).unwrap_err();
        assert!(matches!(error, NixCommandError::Json { .. }), "{error}");
        settings.nix_program = folder.path().join("nothing");
        let error = NixCommand::new(&settings).all_paths().unwrap_err();
        assert!(matches!(error, NixCommandError::Start { .. }) && error.hint().is_some());
    }

    #[test]
    fn many_roots_are_asked_about_in_several_calls_and_none_in_no_call() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("calls");
        let settings = with_script(&folder, &format!("echo $# $4 >> {}; echo '[]'", log.display()));
        let roots: Vec<StorePath> =
            (0..2500).map(|n| format!("{n:032}-a").parse().unwrap()).collect();
        let error = NixCommand::new(&settings).closure(&roots).unwrap_err();
        assert!(matches!(error, NixCommandError::Incomplete { path } if path == roots[0]));
        let calls = "1007 --json\n1007 --json\n507 --json\n";
        assert_eq!(fs::read_to_string(&log).unwrap(), calls);
        assert_eq!(NixCommand::new(&settings).closure(&[]).unwrap(), []);
        assert_eq!(fs::read_to_string(&log).unwrap(), calls);
    }

    #[test]
    fn every_form_of_what_was_built_is_read() {
        let entries: Vec<Value> = serde_json::from_str(
            r#"["/a", {"path": "/b"}, {"drvPath": "/d", "outputs": {"dev": "/e", "out": "/f"}},
            {"drvPath": "/d", "outputs": {"out": null}}, 3]"#,
        )
        .unwrap();
        let paths: Vec<_> = entries.iter().map(built_paths).collect();
        let read = [Some(vec!["/a"]), Some(vec!["/b"]), Some(vec!["/e", "/f"]), None, None];
        assert_eq!(paths, read);
    }
}
