//! The tables that have realisations. A database has neither, one or both.

use std::collections::{BTreeMap, HashMap};

use niks3_core::{
    realisation::{OutputId, OutputName},
    store_path::{StoreDir, StorePath},
    wire::PlannedRealisation,
};
use rusqlite::{Statement, Transaction};
use tracing::debug;

use super::{add, signatures};
use crate::nix::ValidPath;

/// Nix up to 2.34. Every output that was built has a row while content-addressed derivations are in
/// use, and two where the derivation was resolved before it was built.
const HASHED: &str = "SELECT id, drvPath, outputName, signatures FROM Realisations
    WHERE outputPath = ?1 ORDER BY id";

/// What the output was built with. Nix 2.34 writes none.
const DEPENDENCIES: &str = "SELECT used.drvPath, used.outputName, valid.path
    FROM RealisationsRefs ref
    JOIN Realisations used ON used.id = ref.realisationReference
    JOIN ValidPaths valid ON valid.id = used.outputPath
    WHERE ref.referrer = ?1";

/// Nix 2.35 on, in the order in which they are looked at. There is no index that leads from a path to
/// its rows, so each is read from end to end.
const TRACES: [&str; 2] = [
    "SELECT outputPath, drvPath, outputName, signatures FROM BuildTraceV3 ORDER BY id",
    "SELECT outputPath, drvPath, outputName, signatures FROM BuildTraceV2 ORDER BY id",
];

/// Adds to the paths of a closure what the database knows they are. `ids` are their rows in
/// `ValidPaths`, in the same order.
pub(in crate::nix) fn read(
    tx: &Transaction<'_>,
    store_dir: &StoreDir,
    ids: &[i64],
    closure: &mut [ValidPath],
) {
    if let Err(error) = read_hashed(tx, store_dir, ids, closure) {
        debug!(%error, "cannot read the table Realisations of the Nix database");
    }
    for query in TRACES {
        if let Err(error) = read_trace(tx, store_dir, query, closure) {
            debug!(%error, "cannot read a table of build traces of the Nix database");
        }
    }
}

fn read_hashed(
    tx: &Transaction<'_>,
    store_dir: &StoreDir,
    ids: &[i64],
    closure: &mut [ValidPath],
) -> rusqlite::Result<()> {
    if !has_rows(tx, "Realisations")? {
        return Ok(());
    }
    let mut rows = tx.prepare(HASHED)?;
    let mut dependencies = match has_rows(tx, "RealisationsRefs")? {
        true => Some(tx.prepare(DEPENDENCIES)?),
        false => None,
    };
    for (id, path) in ids.iter().zip(closure) {
        let mut rows = rows.query([id])?;
        while let Some(row) = rows.next()? {
            let (derivation, output): (String, String) = (row.get(1)?, row.get(2)?);
            let Some(id) = hashed(&derivation, &output) else {
                debug!(path = %path.path, derivation, output, "left out an unreadable realisation");
                continue;
            };
            let dependencies = match &mut dependencies {
                Some(statement) => match dependencies_of(statement, row.get(0)?, store_dir)? {
                    Some(dependencies) => dependencies,
                    None => {
                        debug!(path = %path.path, realisation = %id, "left out, with unreadable dependencies");
                        continue;
                    }
                },
                None => BTreeMap::new(),
            };
            let signatures: Option<String> = row.get(3)?;
            let signatures = signatures::parse(signatures.as_deref());
            add(path, PlannedRealisation { id, dependencies, signatures });
        }
    }
    Ok(())
}

/// `None`: one of them cannot be read, and without it the statement would be another one.
fn dependencies_of(
    statement: &mut Statement<'_>,
    referrer: i64,
    store_dir: &StoreDir,
) -> rusqlite::Result<Option<BTreeMap<OutputId, StorePath>>> {
    let mut rows = statement.query([referrer])?;
    let mut dependencies = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (derivation, output, path): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let path = StorePath::from_absolute(store_dir, &path).ok();
        let Some((id, path)) = hashed(&derivation, &output).zip(path) else { return Ok(None) };
        dependencies.insert(id, path);
    }
    Ok(Some(dependencies))
}

fn hashed(derivation: &str, output: &str) -> Option<OutputId> {
    Some(OutputId::Hashed(derivation.parse().ok()?, output.parse().ok()?))
}

fn read_trace(
    tx: &Transaction<'_>,
    store_dir: &StoreDir,
    query: &str,
    closure: &mut [ValidPath],
) -> rusqlite::Result<()> {
    let table = query.split_whitespace().skip_while(|word| *word != "FROM").nth(1);
    if !has_rows(tx, table.unwrap_or_default())? {
        return Ok(());
    }
    let indexes: HashMap<String, usize> =
        closure.iter().enumerate().map(|(index, path)| (path.path.to_string(), index)).collect();
    let mut statement = tx.prepare(query)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        // Borrowed: most rows are of other paths.
        let Ok(path) = row.get_ref(0)?.as_str() else { continue };
        let Some(path) = indexes.get(base_name(store_dir, path)) else { continue };
        let path = &mut closure[*path];
        let (derivation, output): (String, String) = (row.get(1)?, row.get(2)?);
        let Some(id) = derived(store_dir, &derivation, &output) else {
            debug!(path = %path.path, derivation, output, "left out an unreadable build trace");
            continue;
        };
        let signatures: Option<String> = row.get(3)?;
        let signatures = signatures::parse(signatures.as_deref());
        add(path, PlannedRealisation { id, dependencies: BTreeMap::new(), signatures });
    }
    Ok(())
}

fn derived(store_dir: &StoreDir, derivation: &str, output: &str) -> Option<OutputId> {
    let derivation: StorePath = base_name(store_dir, derivation).parse().ok()?;
    let output: OutputName = output.parse().ok()?;
    derivation.is_derivation().then_some(OutputId::Derived(derivation, output))
}

/// A store path as it may stand in a build trace: with its folder or without it.
fn base_name<'a>(store_dir: &StoreDir, path: &'a str) -> &'a str {
    let in_store = path.strip_prefix(store_dir.as_str());
    in_store.and_then(|path| path.strip_prefix('/')).unwrap_or(path)
}

/// Whether there is such a table, with anything in it.
fn has_rows(tx: &Transaction<'_>, table: &str) -> rusqlite::Result<bool> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)";
    let exists: bool = tx.query_row(exists, [table], |row| row.get(0))?;
    if !exists {
        return Ok(false);
    }
    tx.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), (), |row| row.get(0))
}
