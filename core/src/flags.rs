//! Flags and environment variables from one table: what is parsed, what `--help` prints and what
//! the documentation lists are the same lines.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _};

/// One flag of a command.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// One dash and this letter is the same.
    pub short: Option<char>,
    /// The variable that is read where the flag is not given.
    pub env: Option<&'static str>,
    /// What stands for the value in the help; `None` is a switch.
    pub value: Option<&'static str>,
    /// Whether it may be given several times. The variable then holds words between spaces.
    pub repeatable: bool,
    /// The variable holds lines instead: values have spaces in them.
    pub lines: bool,
    /// What applies where neither is given.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

impl Flag {
    /// A flag that takes a value.
    #[must_use]
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { value: Some(value), ..Self::switch(name, help) }
    }

    /// A flag that is there or not.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        let (repeatable, lines) = (false, false);
        Self { name, short: None, env: None, value: None, repeatable, lines, default: None, help }
    }

    /// The same, also read from a variable.
    #[must_use]
    pub const fn env(self, env: &'static str) -> Self {
        Self { env: Some(env), ..self }
    }

    /// The same, with a default.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The same, with a letter.
    #[must_use]
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// The same, any number of times.
    #[must_use]
    pub const fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// The same; its variable has one value in each line.
    #[must_use]
    pub const fn lines(self) -> Self {
        Self { lines: true, ..self }
    }

    /// How an error names it: `--s3-bucket (NIKS3_S3_BUCKET)`.
    #[must_use]
    pub fn label(&self) -> String {
        match self.env {
            Some(env) => format!("--{} ({env})", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// A wrong or missing setting, in one line that names the flag and the variable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Not in the table.
    #[error("there is no flag {0}; see --help")]
    Unknown(String),
    /// lexopt's own words: a flag without its value, a switch with one.
    #[error("{0}")]
    Parse(String),
    /// A flag of one value was given twice.
    #[error("{0} was given more than once")]
    Twice(String),
    /// Required, and neither flag nor variable is there.
    #[error("{label} is missing: {help}")]
    Missing {
        /// Flag and variable.
        label: String,
        /// What it is.
        help: &'static str,
    },
    /// The value is not one.
    #[error("{label}: {why}")]
    Invalid {
        /// Flag and variable.
        label: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What was given, by flag.
#[derive(Debug, Default)]
pub struct Flags {
    values: BTreeMap<&'static str, Vec<OsString>>,
    table: BTreeMap<&'static str, Flag>,
    /// What was no flag, in order.
    pub arguments: Vec<OsString>,
}

/// Whether `--help` or `-h` was met, and nothing after it was looked at.
#[derive(Debug)]
pub enum Parsed {
    /// Show the help.
    Help,
    /// Go on with these.
    Flags(Flags),
}

/// Parses `args` by `table`; `env` looks up a variable. What a flag says wins over its variable.
///
/// # Errors
/// When a flag is unknown, lacks its value or was given too often.
pub fn parse(
    table: &[Flag],
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Parsed, FlagError> {
    let by_name = table.iter().map(|flag| (flag.name, *flag)).collect();
    let mut flags = Flags { table: by_name, ..Flags::default() };
    let mut parser = lexopt::Parser::from_args(args);
    let failed = |error: lexopt::Error| FlagError::Parse(error.to_string());
    while let Some(arg) = parser.next().map_err(failed)? {
        let flag = match &arg {
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(Parsed::Help),
            lexopt::Arg::Long(name) => table.iter().find(|flag| flag.name == *name),
            lexopt::Arg::Short(short) => table.iter().find(|flag| flag.short == Some(*short)),
            lexopt::Arg::Value(value) => {
                flags.arguments.push(value.clone());
                continue;
            }
        };
        let Some(flag) = flag else {
            let shown = match arg {
                lexopt::Arg::Short(short) => format!("-{short}"),
                lexopt::Arg::Long(name) => format!("--{name}"),
                lexopt::Arg::Value(_) => String::new(),
            };
            return Err(FlagError::Unknown(shown));
        };
        let value = if flag.value.is_some() {
            parser.value().map_err(failed)?
        } else {
            OsString::from("true")
        };
        let values = flags.values.entry(flag.name).or_default();
        if !values.is_empty() && !flag.repeatable && flag.value.is_some() {
            return Err(FlagError::Twice(flag.label()));
        }
        values.push(value);
    }
    for flag in table {
        // An empty variable is as good as none: that is how people unset one for a command.
        let given = flag.env.and_then(&env).filter(|value| !value.is_empty());
        let (Some(value), false) = (given, flags.values.contains_key(flag.name)) else { continue };
        let values = match (flag.repeatable, value.to_str()) {
            (true, Some(text)) if flag.lines => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                lines.map(OsString::from).collect()
            }
            (true, Some(text)) => text.split_whitespace().map(OsString::from).collect(),
            _ => vec![value],
        };
        flags.values.insert(flag.name, values);
    }
    Ok(Parsed::Flags(flags))
}

impl Flags {
    /// The values of a repeatable flag.
    #[must_use]
    pub fn all(&self, name: &str) -> &[OsString] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether neither flag nor variable gave a value.
    #[must_use]
    pub fn is_absent(&self, name: &str) -> bool {
        !self.values.contains_key(name)
    }

    /// A switch. A variable may say `true`, `1`, `yes`, `false`, `0` or `no`.
    ///
    /// # Errors
    /// When the variable says something else.
    pub fn switch(&self, name: &str) -> Result<bool, FlagError> {
        Ok(self.parsed(name, parse_bool)?.unwrap_or(false))
    }

    /// The value of a flag as text, its default where it was not given.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>, FlagError> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    /// The value of a flag or its default, parsed.
    ///
    /// # Errors
    /// When it cannot be parsed: with the flag, the variable and the parser's words.
    pub fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, FlagError> {
        let default = self.table.get(name).and_then(|flag| flag.default);
        let text = match self.all(name).last() {
            Some(value) => value.to_str().ok_or_else(|| self.invalid(name, "it is not UTF-8"))?,
            None => match default {
                Some(default) => default,
                None => return Ok(None),
            },
        };
        parse(text).map(Some).map_err(|why| self.invalid(name, why))
    }

    /// Like [`Flags::parsed`], and required.
    ///
    /// # Errors
    /// Also when it is missing.
    pub fn required<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, FlagError> {
        self.parsed(name, parse)?.ok_or_else(|| self.missing(name))
    }

    /// The values of a repeatable flag, each parsed.
    ///
    /// # Errors
    /// With the first that is wrong, or when there are more than `at_most`.
    pub fn each<T>(
        &self,
        name: &str,
        at_most: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, FlagError> {
        let one = |value: &OsString| match value.to_str() {
            Some(text) => parse(text).map_err(|why| self.invalid(name, why)),
            None => Err(self.invalid(name, format!("{value:?} is not UTF-8"))),
        };
        if self.all(name).len() > at_most {
            return Err(self.invalid(name, format!("there can be {at_most} at most")));
        }
        self.all(name).iter().map(one).collect()
    }

    /// The error for a flag that is missing.
    #[must_use]
    pub fn missing(&self, name: &str) -> FlagError {
        let help = self.table.get(name).map_or("", |flag| flag.help);
        FlagError::Missing { label: self.label(name), help }
    }

    /// The error for a flag whose value is wrong.
    #[must_use]
    pub fn invalid(&self, name: &str, why: impl Into<String>) -> FlagError {
        FlagError::Invalid { label: self.label(name), why: why.into() }
    }

    fn label(&self, name: &str) -> String {
        self.table.get(name).map_or_else(|| format!("--{name}"), Flag::label)
    }
}

/// `true`, `1`, `yes`, `on` or `false`, `0`, `no`, `off`.
///
/// # Errors
/// When it is none of them.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

/// The flags as `--help` lists them.
#[must_use]
pub fn help(table: &[Flag]) -> String {
    const WIDTH: usize = 34;
    let mut text = String::new();
    for flag in table {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
        let left = format!("  {short}--{}{value}", flag.name);
        let mut notes = Vec::new();
        if let Some(default) = flag.default {
            notes.push(format!("default {default}"));
        }
        if flag.repeatable {
            notes.push("repeatable".to_owned());
        }
        if let Some(env) = flag.env {
            notes.push(env.to_owned());
        }
        let notes =
            if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join(", ")) };
        let gap = if left.len() < WIDTH {
            " ".repeat(WIDTH - left.len())
        } else {
            format!("\n{}", " ".repeat(WIDTH))
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{left}{gap}{}{notes}", flag.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        Flag::value("bucket", "NAME", "the bucket").env("X_BUCKET"),
        Flag::value("key", "FILE", "a key").env("X_KEYS").repeatable(),
        Flag::value("header", "X", "a header").env("X_HEADERS").repeatable().lines(),
        Flag::value("size", "N", "how many").default("30").short('n'),
        Flag::switch("debug", "more words").env("X_DEBUG"),
    ];

    fn parsed(args: &[&str], env: &[(&str, &str)]) -> Result<Flags, FlagError> {
        let env = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        match parse(TABLE, args.iter().map(OsString::from), env)? {
            Parsed::Flags(flags) => Ok(flags),
            Parsed::Help => unreachable!("no --help was given"),
        }
    }

    fn number(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| format!("{text:?} is not a number"))
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_defaults() {
        let flags = parsed(&["--bucket=a", "x", "-n", "5"], &[("X_BUCKET", "b")]).unwrap();
        assert_eq!(flags.text("bucket").unwrap().unwrap(), "a");
        assert_eq!(flags.arguments, ["x"]);
        assert_eq!(flags.required("size", number), Ok(5));
        let flags = parsed(&[], &[("X_BUCKET", "b"), ("X_KEYS", "k1 k2"), ("X_DEBUG", "1")]);
        let flags = flags.unwrap();
        assert_eq!(flags.text("bucket").unwrap().unwrap(), "b");
        assert_eq!(flags.all("key"), ["k1", "k2"]);
        let flags_of_lines = parsed(&[], &[("X_HEADERS", "a=x, y\n\n  b=z")]).unwrap();
        assert_eq!(flags_of_lines.all("header"), ["a=x, y", "b=z"]);
        assert_eq!(flags.required("size", number), Ok(30));
        assert_eq!(flags.switch("debug"), Ok(true));
        assert_eq!(parsed(&[], &[("X_DEBUG", "")]).unwrap().switch("debug"), Ok(false));
    }

    #[test]
    fn a_mistake_is_one_line_with_the_flag_and_the_variable() {
        let error = |args: &[&str]| parsed(args, &[]).unwrap_err().to_string();
        assert_eq!(error(&["--bukket", "a"]), "there is no flag --bukket; see --help");
        assert_eq!(
            error(&["--bucket", "a", "--bucket", "b"]),
            "--bucket (X_BUCKET) was given more than once"
        );
        assert!(error(&["--bucket"]).contains("bucket"));
        let flags = parsed(&["--size", "many"], &[]).unwrap();
        let missing = flags.required("bucket", number).unwrap_err().to_string();
        assert_eq!(missing, "--bucket (X_BUCKET) is missing: the bucket");
        let wrong = flags.required("size", number).unwrap_err().to_string();
        assert_eq!(wrong, "--size: \"many\" is not a number");
    }

    #[test]
    fn the_help_lists_every_flag_with_its_variable_and_default() {
        let text = help(TABLE);
        for part in ["--bucket NAME", "[X_BUCKET]", "-n, --size N", "default 30", "repeatable"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
