//! Finds `initdb` and `postgres`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::PostgresError;

/// Where Debian and its kin put PostgreSQL: `<here>/<version>/bin`, which is not on the PATH.
const VERSIONED: &str = "/usr/lib/postgresql";

/// Where to look.
pub(super) struct Search {
    /// A PATH.
    pub(super) path: Option<OsString>,
    /// A folder with a folder for each version.
    pub(super) versioned: PathBuf,
}

/// The programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl Search {
    pub(super) fn of_this_system() -> Self {
        Self { path: std::env::var_os("PATH"), versioned: VERSIONED.into() }
    }

    /// The first pair that is found, of the major version `wanted` if `data_dir` has one.
    pub(super) async fn programs(
        &self,
        wanted: Option<&str>,
        data_dir: &Path,
    ) -> Result<Programs, PostgresError> {
        let searched = self.folders().await;
        let mut installed = Vec::new();
        for folder in &searched {
            let (initdb, postgres) = (folder.join("initdb"), folder.join("postgres"));
            if !initdb.is_file() || !postgres.is_file() {
                continue;
            }
            let major = major_version(&postgres).await?;
            if wanted.is_none_or(|wanted| wanted == major) {
                return Ok(Programs { initdb, postgres });
            }
            if !installed.contains(&major) {
                installed.push(major);
            }
        }
        match wanted {
            Some(wanted) if !installed.is_empty() => {
                let (data_dir, wanted) = (data_dir.to_owned(), wanted.to_owned());
                Err(PostgresError::OtherVersion { data_dir, wanted, installed })
            }
            _ => Err(PostgresError::NotFound { searched }),
        }
    }

    /// The PATH, what `pg_config` says, then every version from the highest down.
    async fn folders(&self) -> Vec<PathBuf> {
        let on_path = || self.path.iter().flat_map(std::env::split_paths);
        let mut folders: Vec<PathBuf> = on_path().collect();
        if let Some(pg_config) = on_path().map(|dir| dir.join("pg_config")).find(|p| p.is_file())
            && let Some(answer) = ask(&pg_config, "--bindir").await
        {
            folders.push(answer.into());
        }
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(&self.versioned)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        if versions.is_empty() {
            folders.push(self.versioned.join("*/bin"));
        }
        folders.extend(versions.into_iter().map(|(_, folder)| folder));
        folders
    }
}

/// `15`, from `postgres (PostgreSQL) 15.10 (Debian 15.10-0+deb12u1)`.
async fn major_version(postgres: &Path) -> Result<String, PostgresError> {
    let answer = ask(postgres, "--version").await.unwrap_or_default();
    let number = answer.split_whitespace().nth(2).unwrap_or_default();
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    if major.is_empty() {
        return Err(PostgresError::UnknownVersion { program: postgres.to_owned(), answer });
    }
    Ok(major)
}

/// What a program prints; nothing if it cannot be run.
async fn ask(program: &Path, question: &str) -> Option<String> {
    let output = Command::new(program).arg(question).stdin(Stdio::null()).output().await.ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Programs that only know their version.
    fn install(folder: &Path, version: &str) {
        fs::create_dir_all(folder).unwrap();
        for name in ["initdb", "postgres"] {
            let path = folder.join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn search(root: &Path) -> Search {
        Search { path: Some(root.join("path").into_os_string()), versioned: root.join("versioned") }
    }

    #[tokio::test]
    async fn the_path_comes_first_then_the_highest_version() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for version in ["9", "16", "15"] {
            let minor = format!("{version}.4 (Debian)");
            install(&root.join("versioned").join(version).join("bin"), &minor);
        }
        let found = search(root).programs(None, root).await.unwrap();
        assert_eq!(found.postgres, root.join("versioned/16/bin/postgres"));
        install(&root.join("path"), "14.1");
        let found = search(root).programs(None, root).await.unwrap();
        assert_eq!(found.initdb, root.join("path/initdb"));
    }

    #[tokio::test]
    async fn a_cluster_gets_the_programs_of_its_own_version() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        install(&root.join("path"), "17beta1");
        install(&root.join("versioned/15/bin"), "15.2");
        let found = search(root).programs(Some("15"), root).await.unwrap();
        assert_eq!(found.postgres, root.join("versioned/15/bin/postgres"));

        let error = search(root).programs(Some("13"), Path::new("/data")).await.unwrap_err();
        assert_eq!(error.to_string(), "/data was made by PostgreSQL 13, installed here: 17, 15");
        assert!(error.hint().unwrap().starts_with("install PostgreSQL 13, or start anew"));
    }
}
