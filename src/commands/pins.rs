//! `niks3 pins`

use niks3_core::{store_path::StoreDir, wire::Pin};
use serde_json::json;

use super::{
    CommandError, connect, print,
    table::{self, time},
};
use crate::{
    config::{PinsCommand, PinsConfig},
    nix,
    push::Style,
    report,
};

pub(super) fn run(config: PinsConfig) -> Result<(), CommandError> {
    report::start_log(Style::Normal);
    let store_dir = &config.store.store_dir;
    match config.command {
        PinsCommand::Create { name, path } => {
            let path = nix::resolve_root(&config.store, &path)?;
            let (runtime, api) = connect(&config.server)?;
            let pin = runtime
                .block_on(api.pin(&name, &path))
                .map_err(|source| CommandError::Pin { name, path, source })?;
            eprintln!("pinned {} as {}", pin.path.absolute(store_dir), pin.name);
        }
        PinsCommand::List { json, names_only } => {
            let (runtime, api) = connect(&config.server)?;
            let pins = runtime.block_on(api.pins())?;
            print(&match (json, names_only) {
                (true, _) => as_json(&pins, store_dir),
                (_, true) => pins.iter().map(|pin| format!("{}\n", pin.name)).collect(),
                _ => as_table(&pins, store_dir),
            });
        }
        PinsCommand::Delete { name } => {
            let (runtime, api) = connect(&config.server)?;
            runtime
                .block_on(api.delete_pin(&name))
                .map_err(|source| CommandError::DeletePin { name: name.clone(), source })?;
            eprintln!("deleted the pin {name}: its closure expires like any other now");
        }
    }
    Ok(())
}

/// Paths are whole: what reads this hands them to Nix.
fn as_json(pins: &[Pin], store_dir: &StoreDir) -> String {
    let pins = pins.iter().map(|pin| {
        let (name, path) = (pin.name.to_string(), pin.path.absolute(store_dir));
        json!({"name": name, "path": path, "moved_at": pin.moved_at})
    });
    format!("{:#}\n", pins.collect::<serde_json::Value>())
}

fn as_table(pins: &[Pin], store_dir: &StoreDir) -> String {
    let rows = pins
        .iter()
        .map(|pin| [pin.name.to_string(), time(pin.moved_at), pin.path.absolute(store_dir)]);
    table::text(["NAME", "MOVED (UTC)", "PATH"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins() -> Vec<Pin> {
        let golden = include_str!("../../core/tests/golden/pin.json");
        vec![serde_json::from_str(golden).unwrap()]
    }

    #[test]
    fn a_list_is_for_people_and_for_programs() {
        let dir = StoreDir::default();
        assert_eq!(
            as_table(&pins(), &dir),
            "NAME         MOVED (UTC)       PATH\n\
             release-1.2  2026-11-22 15:17  /nix/store/4ml2s260zpvzdqanvhnk8pr4r9dj5k1k-multi\n"
        );
        let read: serde_json::Value = serde_json::from_str(&as_json(&pins(), &dir)).unwrap();
        let path = "/nix/store/4ml2s260zpvzdqanvhnk8pr4r9dj5k1k-multi";
        let pin = json!({"name": "release-1.2", "path": path, "moved_at": 1_795_360_657});
        assert_eq!(read, json!([pin]));
        assert_eq!(as_json(&[], &dir), "[]\n");
        assert_eq!(as_table(&[], &dir), "");
    }
}
