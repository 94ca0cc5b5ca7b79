//! An error as a person sees it: what failed, why, what to do; and the exit code for programs.

use std::{io::Write as _, process::ExitCode};

use niks3_core::{causes::causes, flags::FlagError, verdict::Verdict};
use reqwest::StatusCode;
use tracing_subscriber::EnvFilter;

use crate::{
    api::ApiError,
    commands::CommandError,
    gc::CollectError,
    pack::PackError,
    push::{PushError, SendError, Style},
};

/// Exit codes, as `--help` lists them.
mod code {
    pub(super) const FAILED: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const STORE: u8 = 5;
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Prints why a command failed, with its causes and what to do.
#[must_use]
pub fn show(error: &CommandError) -> ExitCode {
    for (n, text) in causes(error).iter().enumerate() {
        eprintln!("{}{text}", if n == 0 { "error: " } else { "  because " });
    }
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(exit_code(error))
}

/// Prints the same as a JSON event on standard output.
pub fn event(error: &CommandError) {
    let causes = causes(error);
    let event = serde_json::json!({
        "event": "error",
        "message": causes.first(),
        "causes": causes.get(1..),
        "hint": hint(error),
        "exit_code": exit_code(error),
    });
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(std::io::stdout().lock(), "{event}");
}

/// Prints which flag is wrong.
#[must_use]
pub fn show_usage(error: &FlagError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code::USAGE)
}

/// Logs to standard error what `RUST_LOG` asks for; without it warnings, or errors alone where nothing
/// else shall be said or what is said is JSON.
pub fn start_log(style: Style) {
    let default = if matches!(style, Style::Quiet | Style::Json) { "error" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, as tests make, is no error.
    let _ = log.without_time().try_init();
}

fn hint(error: &CommandError) -> Option<String> {
    match error {
        CommandError::Token(error) => error.hint(),
        CommandError::Api(error) => error.hint(),
        CommandError::Store(error) => error.hint(),
        CommandError::Installable(error) => error.hint(),
        CommandError::Push(error) => push_hint(error),
        CommandError::Collect(error) => error.hint(),
        CommandError::Pin { source, .. } if source.is_not_found() => {
            Some("push it first: `niks3 push --pin NAME PATH` does both".to_owned())
        }
        CommandError::DeletePin { source, .. } if source.is_not_found() => {
            Some("`niks3 pins list` has those that there are".to_owned())
        }
        CommandError::DeleteClosure { source, .. } if source.is_not_found() => {
            Some("`niks3 closures list` has those that there are".to_owned())
        }
        CommandError::DeleteClosure { source, .. }
            if source.refused_with() == Some(StatusCode::CONFLICT) =>
        {
            Some("delete its pins first, or move them: see `niks3 pins --help`".to_owned())
        }
        CommandError::Pin { source, .. }
        | CommandError::DeletePin { source, .. }
        | CommandError::DeleteClosure { source, .. } => source.hint(),
        CommandError::PinLeftOut { .. } => {
            Some("leave out --pin, or what leaves the path out".to_owned())
        }
        CommandError::PinOfSeveral { .. } => {
            Some("push them without --pin, then use `niks3 pins create` for each".to_owned())
        }
        CommandError::Start(_) | CommandError::Stdin(_) | CommandError::Nothing => None,
    }
}

fn push_hint(error: &PushError) -> Option<String> {
    match error {
        PushError::Store(error) => error.hint(),
        PushError::Api(error) => error.hint(),
        PushError::SharedApi(error) => error.hint(),
        PushError::Pack { source, .. } => source.hint(),
        PushError::Send { source, .. } => source.hint(),
        PushError::Lost { .. } | PushError::Stuck { .. } => {
            Some("push again: what is there is not sent again".to_owned())
        }
        PushError::Interrupted => Some(
            "push again to complete it: NARs that are in the bucket are not sent twice".to_owned(),
        ),
        PushError::Task(_) | PushError::TooLarge { .. } | PushError::PartTooLarge { .. } => None,
    }
}

fn exit_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Token(_) => code::USAGE,
        CommandError::Api(error) => api_code(error),
        CommandError::Store(_) | CommandError::Installable(_) => code::STORE,
        CommandError::Start(_) | CommandError::Stdin(_) | CommandError::Nothing => code::FAILED,
        CommandError::Pin { source, .. }
        | CommandError::DeletePin { source, .. }
        | CommandError::DeleteClosure { source, .. } => api_code(source),
        CommandError::PinLeftOut { .. } | CommandError::PinOfSeveral { .. } => code::USAGE,
        CommandError::Collect(error) => match error {
            CollectError::Api(error) | CollectError::Busy(error) => api_code(error),
            CollectError::Failed { .. } | CollectError::Unseen { .. } => code::FAILED,
            CollectError::Lost { .. } => code::UNREACHABLE,
            CollectError::Interrupted { .. } => code::INTERRUPTED,
        },
        CommandError::Push(error) => match error {
            PushError::Pack { source: PackError::Write { .. }, .. } => code::FAILED,
            PushError::Store(_) | PushError::Pack { .. } => code::STORE,
            PushError::Api(error) => api_code(error),
            PushError::SharedApi(error) => api_code(error),
            PushError::Send { source, .. } => send_code(source),
            PushError::Lost { .. } | PushError::Stuck { .. } => code::UNREACHABLE,
            PushError::Interrupted => code::INTERRUPTED,
            PushError::Task(_) => code::FAILED,
            PushError::TooLarge { .. } => code::STORE,
            PushError::PartTooLarge { .. } => code::USAGE,
        },
    }
}

fn send_code(error: &SendError) -> u8 {
    match error {
        SendError::Refused { .. } if error.verdict() == Verdict::Final => code::REFUSED,
        SendError::Refused { .. } | SendError::Unreachable(_) | SendError::Stalled => {
            code::UNREACHABLE
        }
        SendError::NoETag => code::REFUSED,
        SendError::NoUrl => code::FAILED,
    }
}

fn api_code(error: &ApiError) -> u8 {
    match error {
        ApiError::Setup(_) => code::FAILED,
        error if error.may_pass() => code::UNREACHABLE,
        _ => code::REFUSED,
    }
}
