//! What was asked for.

use std::path::PathBuf;

pub struct Options {
    /// Objects of each cache, garbage not counted.
    pub sizes: Vec<u64>,
    /// Garbage of each collection.
    pub garbage: Vec<u64>,
    /// Garbage that a real S3 server has; 0 for none.
    pub real_objects: u64,
    pub pushes: bool,
    pub mark: bool,
    /// Where caches are made and left; those that are there are used.
    pub keep: Option<PathBuf>,
    /// Where the databases lie otherwise.
    pub dir: PathBuf,
}

impl Options {
    pub fn from_arguments() -> Result<Self, String> {
        let mut options = Self {
            sizes: vec![100_000, 1_000_000],
            garbage: vec![10_000, 100_000],
            real_objects: 10_000,
            pushes: true,
            mark: true,
            keep: None,
            dir: std::env::temp_dir(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--sizes" => options.sizes = numbers(&value()?)?,
                "--garbage" => options.garbage = numbers(&value()?)?,
                "--real-objects" => options.real_objects = number(&value()?)?,
                "--no-pushes" => options.pushes = false,
                "--no-mark" => options.mark = false,
                "--keep" => options.keep = Some(value()?.into()),
                "--dir" => options.dir = value()?.into(),
                // cargo bench says so.
                "--bench" => {}
                other => return Err(format!("there is no argument {other:?}")),
            }
        }
        if options.sizes.is_empty() || options.garbage.iter().min().is_none_or(|least| *least == 0)
        {
            return Err("--sizes and --garbage need a number".to_owned());
        }
        Ok(options)
    }
}

fn numbers(list: &str) -> Result<Vec<u64>, String> {
    list.split(',').map(number).collect()
}

/// `100000`, `100k` or `10M`.
fn number(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a number like 100k"))?;
    Ok(number * factor)
}
