//! The arguments: parsed by one table for each command, which the help texts are made from too.

mod closures;
mod flags;
mod gc;
mod pins;
mod push;

use std::ffi::OsString;

use niks3_core::flags::{self as table, Flag, FlagError, Flags, Parsed};

use self::flags::{EXIT_CODES, VARIABLES};
use crate::config::{ClosuresConfig, CollectConfig, PinsConfig, PushConfig};

/// What the person asked for, checked.
#[derive(Debug)]
pub enum Command {
    /// Print this and end.
    Print(String),
    /// Push closures: `copy` and `push`.
    Push(Box<PushConfig>),
    /// Collect garbage: `gc`.
    Collect(CollectConfig),
    /// `pins`
    Pins(PinsConfig),
    /// `closures`
    Closures(ClosuresConfig),
}

/// A command: its flags, and what its help says.
struct Page {
    usage: &'static str,
    about: &'static str,
    flags: &'static [Flag],
}

/// A command of commands.
struct Group {
    name: &'static str,
    about: &'static str,
    pages: &'static [(&'static str, &'static Page)],
}

/// Parses the arguments; `env` looks up a variable.
///
/// # Errors
/// With what is wrong, in one line.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, FlagError> {
    let mut args = args.into_iter();
    let command = args.next().unwrap_or_default();
    let mut args: Vec<OsString> = args.collect();
    match command.to_str() {
        Some("copy") => push::parse(&push::COPY, "to", args, env),
        Some("push") => push::parse(&push::PUSH, "server-url", args, env),
        Some("gc") => gc::GC.parse(args, &env, |flags| {
            Ok(Command::Collect(CollectConfig::from_flags(flags, &env)?))
        }),
        Some("pins") => match pins::PINS.choose(&mut args)? {
            Choice::Help(help) => Ok(Command::Print(help)),
            Choice::Page(name, page) => page.parse(args, &env, |flags| {
                Ok(Command::Pins(PinsConfig::from_flags(name, flags, &env)?))
            }),
        },
        Some("closures") => match closures::CLOSURES.choose(&mut args)? {
            Choice::Help(help) => Ok(Command::Print(help)),
            Choice::Page(name, page) => page.parse(args, &env, |flags| {
                Ok(Command::Closures(ClosuresConfig::from_flags(name, flags, &env)?))
            }),
        },
        Some("" | "help" | "--help" | "-h") => Ok(Command::Print(help())),
        Some("--version" | "-V") => {
            Ok(Command::Print(concat!("niks3 ", env!("CARGO_PKG_VERSION"), "\n").to_owned()))
        }
        _ => {
            let command = command.to_string_lossy();
            Err(FlagError::Parse(format!("there is no command {command:?}; see niks3 --help")))
        }
    }
}

impl Page {
    fn parse(
        &self,
        args: Vec<OsString>,
        env: impl Fn(&str) -> Option<OsString>,
        command: impl FnOnce(&Flags) -> Result<Command, FlagError>,
    ) -> Result<Command, FlagError> {
        match table::parse(self.flags, args, env)? {
            Parsed::Help => Ok(Command::Print(self.help())),
            Parsed::Flags(flags) => command(&flags),
        }
    }

    fn help(&self) -> String {
        let (usage, about, flags) = (self.usage, self.about, table::help(self.flags));
        format!("usage: {usage}\n\n{about}\n{flags}\n{VARIABLES}\n{EXIT_CODES}")
    }
}

/// What was chosen of a group.
enum Choice {
    Help(String),
    Page(&'static str, &'static Page),
}

impl Group {
    /// Takes the command's name off `args`.
    fn choose(&self, args: &mut Vec<OsString>) -> Result<Choice, FlagError> {
        let group = self.name;
        let names: Vec<&str> = self.pages.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        let Some(command) = args.first().cloned() else {
            return Err(FlagError::Parse(format!("niks3 {group} needs one of: {names}")));
        };
        if ["help", "--help", "-h"].iter().any(|help| command == *help) {
            return Ok(Choice::Help(self.help()));
        }
        let Some((name, page)) = self.pages.iter().find(|(name, _)| command == *name) else {
            let command = command.to_string_lossy();
            return Err(FlagError::Parse(format!(
                "there is no command niks3 {group} {command:?}; it is one of: {names}"
            )));
        };
        args.remove(0);
        Ok(Choice::Page(name, page))
    }

    /// `niks3 pins --help`
    fn help(&self) -> String {
        let usages: Vec<&str> = self.pages.iter().map(|(_, page)| page.usage).collect();
        let mut text = format!("usage: {}\n\n{}", usages.join("\n       "), self.about);
        for (name, page) in self.pages {
            text += &format!("\nniks3 {} {name}:\n\n{}", self.name, page.about);
            let own = &page.flags[flags::SERVER.len()..];
            if !own.is_empty() {
                text += &format!("\n{}", table::help(own));
            }
        }
        let common = table::help(flags::SERVER);
        format!("{text}\nflags of each:\n\n{common}\n{VARIABLES}\n{EXIT_CODES}")
    }
}

/// `niks3 --help`
#[must_use]
pub fn help() -> String {
    format!(
        "niks3: push Nix closures to an S3 bucket that cleans up after itself\n\
         \n\
         usage:\n\
         \x20 niks3 copy --to URL [FLAGS] PATH…   like `nix copy`, to the cache of a niks3 server\n\
         \x20 niks3 push [FLAGS] PATH…            the same, with the server from the settings\n\
         \x20 niks3 gc [FLAGS]                    delete what nothing needs any more\n\
         \x20 niks3 pins create NAME PATH         keep a closure from expiring, under a name\n\
         \x20 niks3 pins list                     list the pins\n\
         \x20 niks3 pins delete NAME              remove a pin\n\
         \x20 niks3 closures list                 list what was pushed and has not expired\n\
         \x20 niks3 closures delete PATH          have a closure expire now\n\
         \x20 niks3 COMMAND --help                what a command does, and all of its flags\n\
         \n\
         A PATH is a store path, a file inside one, a link such as ./result, or a flake reference\n\
         such as .#hello, which `nix build` builds first.\n\
         \n\
         flags of every command (copy has --to in place of --server-url):\n{}\n\
         flags of push and copy:\n{}\n\
         flags of gc:\n{}\n\
         {VARIABLES}\n\
         {EXIT_CODES}",
        table::help(flags::SERVER),
        table::help(&push::PUSH_FLAGS[flags::SERVER.len()..]),
        table::help(&gc::GC.flags[flags::SERVER.len()..]),
    )
}

#[cfg(test)]
mod tests;
