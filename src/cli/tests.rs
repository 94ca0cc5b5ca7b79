use super::{
    push::{COPY_FLAGS, PUSH_FLAGS},
    *,
};
use crate::{
    config::{ClosuresCommand, PinsCommand},
    push::Style,
};

fn parsed(args: &[&str], env: &[(&str, &str)]) -> Result<Command, FlagError> {
    let env = |name: &str| {
        env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    parse(args.iter().map(OsString::from), env)
}

fn error(args: &[&str]) -> String {
    parsed(args, &[("NIKS3_AUTH_TOKEN", "t")]).unwrap_err().to_string()
}

#[test]
fn copy_and_push_ask_for_a_server_and_paths() {
    let Command::Push(config) =
        parsed(&["copy", "--to", "https://niks3.example.org", "./result", "--stdin"], &[]).unwrap()
    else {
        panic!("copy is a push")
    };
    assert_eq!(config.server.url.as_str(), "https://niks3.example.org/");
    assert!(config.stdin && !config.all);
    assert_eq!(config.installables, ["./result"]);
    let env = [("NIKS3_SERVER_URL", "http://localhost:5751")];
    assert!(matches!(parsed(&["push", "./result"], &env), Ok(Command::Push(_))));
    assert!(error(&["push", "./result"]).contains("--server-url (NIKS3_SERVER_URL) is missing"));
    assert!(error(&["copy", "./result"]).contains("--to is missing"));
    assert!(error(&["copy", "--to", "http://localhost"]).contains("no path"));
    let both = ["copy", "--to", "http://localhost", "--all", "./result"];
    assert!(error(&both).contains("--all"));
}

#[test]
fn a_bucket_is_told_apart_from_a_server() {
    for url in ["s3://cache", "file:///tmp/cache", "ssh://host", "cache.example.org"] {
        let text = error(&["copy", "--to", url, "./result"]);
        assert!(text.contains("niks3 server") && text.contains("--to"), "{text}");
    }
}

#[test]
fn a_password_in_the_url_is_refused_and_not_shown() {
    for url in ["https://me:hunter2@host", "https://host/?token=hunter2", "me:hunter2@host"] {
        let text = error(&["copy", "--to", url, "./result"]);
        assert!(text.contains("niks3 server") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_token_comes_from_a_file_or_a_script_and_not_from_both() {
    let copy = ["copy", "--to", "http://localhost", "--auth-token-script", "./token", "x"];
    let Ok(Command::Push(config)) = parsed(&copy, &[("NIKS3_AUTH_TOKEN", "t")]) else {
        panic!("a script is enough")
    };
    assert_eq!(config.server.token.script.as_deref(), Some(std::path::Path::new("./token")));
    let both = parsed(&copy, &[("NIKS3_AUTH_TOKEN_FILE", "f")]).unwrap_err().to_string();
    assert_eq!(
        both,
        "--auth-token-script (NIKS3_AUTH_TOKEN_SCRIPT): give either this or \
         --auth-token-path (NIKS3_AUTH_TOKEN_FILE), not both"
    );
}

#[test]
fn what_nix_copy_can_and_a_push_cannot_gets_one_sentence() {
    for args in [
        ["copy", "--from", "https://cache"],
        ["copy", "--from=https://cache", "x"],
        ["copy", "-s", "x"],
        ["copy", "--no-recursive", "x"],
        ["push", "--substitute-on-destination", "x"],
    ] {
        let text = error(&args);
        assert!(text.lines().count() == 1 && text.contains(';'), "{text}");
    }
}

const SERVER: (&str, &str) = ("NIKS3_SERVER_URL", "http://localhost:5751");

#[test]
fn a_pin_is_for_one_path() {
    let Ok(Command::Push(config)) = parsed(&["push", "--pin", "main", "./result"], &[SERVER])
    else {
        panic!("one path can be pinned")
    };
    assert_eq!(config.pin, Some("main".parse().unwrap()));
    for args in [&["--all"][..], &["a", "b"]] {
        let args = [&["push", "--pin", "main"], args].concat();
        let text = parsed(&args, &[SERVER]).unwrap_err().to_string();
        assert_eq!(text, "--pin: a pin keeps one closure: name one path");
    }
    let text = parsed(&["push", "--pin", "a/b", "x"], &[SERVER]).unwrap_err().to_string();
    assert!(text.starts_with("--pin: ") && text.contains("a/b"), "{text}");
}

#[test]
fn a_collection_has_the_known_defaults_and_takes_zero() {
    let config = |args: &[&str]| match parsed(&[&["gc"], args].concat(), &[SERVER]) {
        Ok(Command::Collect(config)) => Ok(config),
        Ok(_) => panic!("gc collects"),
        Err(error) => Err(error.to_string()),
    };
    let request = config(&[]).unwrap().request;
    assert_eq!((request.older_than, request.failed_uploads_older_than), (2_592_000, 21_600));
    assert!(!request.force && !request.dry_run);
    let args = ["--older-than=4w", "--failed-uploads-older-than", "0s", "--force", "--dry-run"];
    let request = config(&args).unwrap().request;
    assert_eq!((request.older_than, request.failed_uploads_older_than), (2_419_200, 0));
    assert!(request.force && request.dry_run);
    assert_eq!(config(&["--json"]).unwrap().style, Style::Json);
    assert_eq!(config(&["-q"]).unwrap().style, Style::Quiet);
    for (args, part) in [
        (&["--older-than", "30"][..], "--older-than: \"30\" is not a duration"),
        (&["--json", "--quiet"], "enough"),
        (&["now"], "takes no argument"),
    ] {
        let text = config(args).unwrap_err();
        assert!(text.contains(part), "{text}");
    }
    assert!(error(&["gc"]).contains("--server-url (NIKS3_SERVER_URL) is missing"));
}

#[test]
fn pins_and_closures_take_a_command() {
    let pins = |args: &[&str]| match parsed(&[&["pins"], args].concat(), &[SERVER]) {
        Ok(Command::Pins(config)) => Ok(config.command),
        Ok(_) => panic!("pins is about pins"),
        Err(error) => Err(error.to_string()),
    };
    let name = "main".parse().unwrap();
    assert_eq!(
        pins(&["create", "main", "./result"]),
        Ok(PinsCommand::Create { name, path: "./result".to_owned() })
    );
    assert_eq!(
        pins(&["list", "--names-only"]),
        Ok(PinsCommand::List { json: false, names_only: true })
    );
    assert_eq!(
        pins(&["delete", "main"]),
        Ok(PinsCommand::Delete { name: "main".parse().unwrap() })
    );
    for (args, part) in [
        (&[][..], "needs one of: create, list, delete"),
        (&["move"], "\"move\"; it is one of: create"),
        (&["create", "main"], "NAME and PATH, and 1 arguments"),
        (&["delete", "../x"], "cannot be the name of a pin"),
        (&["list", "--json", "--names-only"], "enough"),
    ] {
        let text = pins(args).unwrap_err();
        assert!(text.contains(part) && text.lines().count() == 1, "{text}");
    }
    let closures = |args: &[&str]| match parsed(&[&["closures"], args].concat(), &[SERVER]) {
        Ok(Command::Closures(config)) => config.command,
        other => panic!("{other:?}"),
    };
    assert_eq!(closures(&["list", "--json"]), ClosuresCommand::List { json: true });
    let path = "./result".to_owned();
    assert_eq!(closures(&["delete", "./result"]), ClosuresCommand::Delete { path });
}

#[test]
fn a_store_elsewhere_does_not_hinder_pins() {
    let env = [SERVER, ("NIX_REMOTE", "ssh-ng://builder")];
    assert!(parsed(&["pins", "list"], &env).is_ok());
    assert!(parsed(&["gc"], &env).is_ok());
    assert!(parsed(&["pins", "list", "--store", "ssh-ng://builder"], &env).is_err());
    assert!(parsed(&["push", "x"], &env).is_err());
}

fn printed(args: &[&str]) -> String {
    match parsed(args, &[]) {
        Ok(Command::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_help_names_every_command_flag_and_variable() {
    let text = help();
    for flag in COPY_FLAGS.iter().chain(PUSH_FLAGS).chain(gc::GC.flags) {
        assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
    }
    for name in ["NIKS3_SERVER_URL", "NIKS3_AUTH_TOKEN_FILE", "NIKS3_AUTH_TOKEN,"] {
        assert!(text.contains(name), "{name}");
    }
    for group in [&pins::PINS, &closures::CLOSURES] {
        let of_group = printed(&[group.name, "--help"]);
        for (name, page) in group.pages {
            assert!(text.contains(&format!("niks3 {} {name}", group.name)), "{name}");
            let of_page = printed(&[group.name, name, "--help"]);
            for help in [&of_group, &of_page] {
                assert!(help.contains(page.usage) && help.contains(page.about), "{help}");
                for flag in page.flags {
                    assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
                }
                assert!(help.contains("Exit codes"));
            }
        }
    }
    for (name, page) in [("copy", &push::COPY), ("push", &push::PUSH), ("gc", &gc::GC)] {
        assert!(printed(&[name, "--help"]).starts_with(&format!("usage: {}\n", page.usage)));
    }
    // Each has in front what every command has: the helps say that once.
    let groups = pins::PINS.pages.iter().chain(closures::CLOSURES.pages);
    for page in groups.map(|(_, page)| *page).chain([&push::PUSH, &gc::GC]) {
        let front: Vec<&str> = page.flags.iter().map(|flag| flag.name).take(3).collect();
        assert_eq!(front, flags::SERVER.iter().map(|flag| flag.name).collect::<Vec<_>>());
    }
}
