//! `niks3`: parse, run, report.

use std::process::ExitCode;

use niks3::{cli, commands, report};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(command) => match commands::run(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report::show(&error),
        },
        Err(usage) => report::show_usage(&usage),
    }
}
