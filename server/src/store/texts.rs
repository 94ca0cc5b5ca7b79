//! What is recorded of narinfos and attachments, and sending it.

use std::collections::HashMap;

use niks3_core::object_key::ObjectKey;
use tokio_postgres::Row;

use super::{StoreError, Token, Tx, read_text};

const RECORDED: &str = include_str!("sql/recorded_texts.sql");

/// A narinfo or attachment, as it is recorded.
#[derive(Clone, Debug)]
pub struct RecordedText {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// What it says.
    pub text: String,
    /// Which text of its row it is.
    pub(super) version: i64,
}

/// A narinfo or attachment that is to be sent.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// Its row.
    pub id: i64,
    /// Its key.
    pub key: ObjectKey,
    /// Its recorded text.
    pub text: String,
    /// The database's time, in seconds since 1970, from which on it may be written: what its URL is
    /// to be signed with.
    pub fenced_at: f64,
    /// What tells this text of it from others.
    pub token: Token,
}

/// What is recorded of these, as far as they are still there.
///
/// # Errors
/// When the query fails or a row cannot be read.
pub async fn recorded_texts(tx: &Tx<'_>, ids: &[i64]) -> Result<Vec<RecordedText>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.rows("read recorded texts", RECORDED, &[&ids]).await?;
    rows.iter().map(read_recorded).collect()
}

pub(super) fn read_recorded(row: &Row) -> Result<RecordedText, StoreError> {
    let key = read_text("a key", row.get("key"))?;
    let (text, version) = (row.get("text"), row.get("version"));
    Ok(RecordedText { id: row.get("id"), key, text, version })
}

/// What is recorded of rows that were just locked and fenced: id, when. In a statement of its own:
/// one that locks sees texts as they were before it waited, and `niks3-server resign` may have had the lock.
pub(super) async fn with_texts(
    tx: &Tx<'_>,
    fenced: &[(i64, f64)],
) -> Result<Vec<Unpublished>, StoreError> {
    let ids: Vec<i64> = fenced.iter().map(|(id, _)| *id).collect();
    let fences: HashMap<i64, f64> = fenced.iter().copied().collect();
    let texts = recorded_texts(tx, &ids).await?;
    let unpublished = texts.into_iter().filter_map(|RecordedText { id, key, text, version }| {
        let fenced_at = *fences.get(&id)?;
        Some(Unpublished { id, key, text, fenced_at, token: Token { id, version } })
    });
    Ok(unpublished.collect())
}
