//! Nix's own configuration files, as far as one setting is asked of them.
//!
//! Nix itself ends when something in them is wrong; that is its to say, so here such a line counts for
//! nothing. <https://nix.dev/manual/nix/latest/command-ref/conf-file>

use std::{
    ffi::OsString,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Files that include each other, one in the next. Nix has no bound, and does not end in a circle.
const MAX_INCLUDES: usize = 16;

/// Bytes of a file that are read: far more than anybody has written into one.
const MAX_BYTES: u64 = 1024 * 1024;

/// What the configuration says of a setting that is on or off; nothing if it does not say.
pub(super) fn switch(name: &str, env: impl Fn(&str) -> Option<OsString>) -> Option<bool> {
    let mut found = Search { name, value: None };
    for file in files(&env) {
        found.file(&file, 0);
    }
    if let Some(text) = env("NIX_CONFIG") {
        found.text(&text.to_string_lossy(), Path::new("/"), 0);
    }
    found.value
}

/// The files that Nix reads; what a later one says goes before what an earlier one says.
fn files(env: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let folder = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let system = folder("NIX_CONF_DIR").unwrap_or_else(|| PathBuf::from("/etc/nix"));
    let mut files: Vec<PathBuf> = match env("NIX_USER_CONF_FILES") {
        Some(files) => std::env::split_paths(&files).collect(),
        None => {
            let home = || folder("HOME").map(|home| home.join(".config"));
            let more = env("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
            let folders = folder("XDG_CONFIG_HOME").or_else(home).into_iter();
            let folders = folders.chain(std::env::split_paths(&more).collect::<Vec<_>>());
            folders.map(|folder| folder.join("nix/nix.conf")).collect()
        }
    };
    files.push(system.join("nix.conf"));
    files.reverse();
    files
}

struct Search<'a> {
    name: &'a str,
    value: Option<bool>,
}

impl Search<'_> {
    fn file(&mut self, file: &Path, depth: usize) {
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        if read.is_ok() {
            let folder = file.parent().unwrap_or(Path::new("/"));
            self.text(&String::from_utf8_lossy(&bytes), folder, depth);
        }
    }

    /// `folder` is where included files are looked for.
    fn text(&mut self, text: &str, folder: &Path, depth: usize) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["include" | "!include", file] if depth < MAX_INCLUDES => {
                    self.file(&folder.join(file), depth + 1);
                }
                [name, "=", value] if name == self.name => {
                    self.value = on_or_off(value).or(self.value);
                }
                _ => {}
            }
        }
    }
}

fn on_or_off(value: &str) -> Option<bool> {
    match value {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is set by `text` as a whole configuration, with `more` beside it.
    fn set_by(text: &str, more: &str) -> Option<bool> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nix.conf"), text).unwrap();
        fs::write(folder.path().join("more.conf"), more).unwrap();
        switch("use-case-hack", |name| match name {
            "NIX_CONF_DIR" => Some(folder.path().into()),
            "NIX_USER_CONF_FILES" => Some(OsString::new()),
            _ => None,
        })
    }

    #[test]
    fn the_last_line_that_sets_it_counts() {
        for (text, set) in [
            ("", None),
            ("use-case-hack = true", Some(true)),
            ("\n  use-case-hack\t=  yes # why\nother = false\n", Some(true)),
            ("use-case-hack = 1\nuse-case-hack = 0", Some(false)),
            ("use-case-hack = true\nuse-case-hack = maybe", Some(true)),
            ("# use-case-hack = true", None),
            ("use-case-hack=true", None),
            ("use-case-hack = true false", None),
            ("extra-use-case-hack = true", None),
        ] {
            assert_eq!(set_by(text, ""), set, "{text:?}");
        }
    }

    #[test]
    fn included_files_count_where_they_are_included_and_circles_end() {
        let more = "use-case-hack = true";
        assert_eq!(set_by("include more.conf", more), Some(true));
        assert_eq!(set_by("!include ./more.conf\nuse-case-hack = no", more), Some(false));
        assert_eq!(set_by("!include nothing.conf", more), None);
        let circle = "include nix.conf\nuse-case-hack = true";
        assert_eq!(set_by("use-case-hack = no\ninclude more.conf", circle), Some(true));
    }

    #[test]
    fn the_files_of_the_user_go_before_the_systems_and_the_variable_before_both() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (file, value) in [("system", "yes"), ("home/nix", "no"), ("xdg/nix", "yes")] {
            fs::create_dir_all(at(file)).unwrap();
            fs::write(at(file).join("nix.conf"), format!("use-case-hack = {value}")).unwrap();
        }
        let set = |given: &[(&str, &str)]| {
            switch("use-case-hack", |name| {
                let value = given.iter().find(|(key, _)| *key == name)?.1;
                Some(if value.contains('=') { value.into() } else { at(value).into_os_string() })
            })
        };
        let system = ("NIX_CONF_DIR", "system");
        let (home, xdg) = (("XDG_CONFIG_HOME", "home"), ("XDG_CONFIG_DIRS", "xdg"));
        assert_eq!(set(&[system, ("HOME", "nowhere"), xdg]), Some(true));
        assert_eq!(set(&[system, xdg, home]), Some(false));
        assert_eq!(set(&[system, home, ("NIX_USER_CONF_FILES", "nowhere")]), Some(true));
        let variable = ("NIX_CONFIG", "use-case-hack = yes\nx = y");
        assert_eq!(set(&[system, xdg, home, variable]), Some(true));
    }
}
