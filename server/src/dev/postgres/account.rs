//! Whom PostgreSQL runs as when we are root.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::PostgresError;

const PASSWD: &str = "/etc/passwd";
/// PostgreSQL's own account, and the one that every system has.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Whom to become: no one unless we are root, else the owner of the cluster that is there,
    /// else a user who may own a new one.
    pub(super) fn to_run_as(data_dir: &Path) -> Result<Option<Self>, PostgresError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
        if let Ok(metadata) = fs::metadata(data_dir.join("PG_VERSION"))
            && metadata.uid() != 0
        {
            let (uid, gid) = (metadata.uid(), metadata.gid());
            let known = accounts(&passwd).find(|account| account.uid == uid);
            let name = known.map_or_else(|| uid.to_string(), |account| account.name);
            return Ok(Some(Self { name, uid, gid }));
        }
        CANDIDATES
            .iter()
            .find_map(|name| accounts(&passwd).find(|account| account.name == *name))
            .map(Some)
            .ok_or(PostgresError::NoAccount)
    }

    /// Checks that nothing on the way to `folder`, which is absolute, keeps this user out.
    pub(super) fn check_reach(&self, folder: &Path) -> Result<(), PostgresError> {
        let way: Vec<&Path> = folder.ancestors().collect();
        for step in way.into_iter().rev() {
            let metadata = fs::metadata(step).map_err(PostgresError::io("look at", step))?;
            if !self.may_enter(metadata.mode(), metadata.uid(), metadata.gid()) {
                let (blocked, folder) = (PathBuf::from(step), folder.to_owned());
                return Err(PostgresError::OutOfReach { user: self.name.clone(), folder, blocked });
            }
        }
        Ok(())
    }

    /// By the mode bits alone, as for a process that has no further groups.
    fn may_enter(&self, mode: u32, owner: u32, group: u32) -> bool {
        let bit = match () {
            () if owner == self.uid => 0o100,
            () if group == self.gid => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }
}

/// The lines of a passwd file that make sense.
fn accounts(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passwd_file_is_read_and_its_odd_lines_are_passed_over() {
        let text = "# comment\nroot:x:0:0:root:/root:/bin/sh\n+::::::\npostgres:x:71:72:::\n";
        let names: Vec<_> = accounts(text).map(|a| (a.name, a.uid, a.gid)).collect();
        assert_eq!(names, [("root".to_owned(), 0, 0), ("postgres".to_owned(), 71, 72)]);
    }

    #[test]
    fn the_first_class_that_fits_decides_who_may_enter() {
        let account = Account { name: "postgres".to_owned(), uid: 71, gid: 72 };
        assert!(account.may_enter(0o700, 71, 0));
        assert!(!account.may_enter(0o077, 71, 72));
        assert!(account.may_enter(0o010, 0, 72));
        assert!(!account.may_enter(0o701, 0, 72));
        assert!(account.may_enter(0o701, 0, 0));
        assert!(!account.may_enter(0o750, 0, 0));
    }

    #[test]
    fn the_folder_in_the_way_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
        let closed = top.join("closed");
        let inside = closed.join("inside");
        fs::create_dir_all(&inside).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();

        let stranger = Account { name: "postgres".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        let error = stranger.check_reach(&inside).unwrap_err();
        let PostgresError::OutOfReach { blocked, .. } = &error else { panic!("{error:?}") };
        assert_eq!(blocked, &closed);
        assert!(error.hint().unwrap().contains("/var/lib/niks3-dev"));
    }
}
