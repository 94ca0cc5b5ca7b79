//! `niks3-server`: parse, run, report.

use std::process::ExitCode;

use niks3_server::cli;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(command) => match cli::run(command) {
            Ok(code) => code,
            Err(error) => cli::show(&error),
        },
        Err(usage) => cli::show_usage(&usage),
    }
}
