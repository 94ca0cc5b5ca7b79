//! Objects on their way out: claimed, deleted from the bucket, forgotten.

use std::time::Duration;

use niks3_core::object_key::ObjectKey;
use tokio_postgres::types::ToSql;

use super::{Connection, StoreError, Tx, read_text};

const NEXT: &str = include_str!("sql/next_condemned.sql");
const CLAIM: &str = include_str!("sql/claim.sql");
const DELETE: &str = include_str!("sql/delete_claimed.sql");
const LAPSE: &str = include_str!("sql/lapse_claims.sql");

/// Claims that one transaction lets lapse.
const LAPSE_CHUNK: i64 = 1000;

/// What may be deleted from the bucket now, by this claim and nobody else.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// Its token: the rows are deleted by it.
    pub token: i64,
    /// The database's time, seconds since 1970: what the requests are signed with.
    pub at: f64,
    /// The objects. None of them refers to another.
    pub objects: Vec<(i64, ObjectKey)>,
    /// Rows of paths that are another cache's: there is nothing to delete in the bucket.
    pub external: Vec<i64>,
    /// Garbage that somebody may be able to write at this moment.
    pub spared: u64,
    /// Condemned objects that something holds after all.
    pub needed: Vec<i64>,
}

impl Claim {
    /// There is nothing that it may delete.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.external.is_empty()
    }
}

/// What became of the rows of deleted objects.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    /// How many rows are gone.
    pub objects: u64,
    /// Bytes of what was stored of them.
    pub bytes: u64,
    /// What is condemned of what they referred to.
    pub freed: Vec<i64>,
}

/// Looks at `limit` condemned objects below `below`, highest first. Answers below which one to go on,
/// and those of them that have been garbage for `grace` and that no row refers to. `None`: there is
/// nothing to look at.
///
/// # Errors
/// When the query fails.
pub async fn next_condemned(
    connection: &Connection,
    below: i64,
    limit: usize,
    grace: Duration,
) -> Result<Option<(i64, Vec<i64>)>, StoreError> {
    let params: [&(dyn ToSql + Sync); 3] = [&below, &(limit as i64), &grace.as_secs_f64()];
    let rows = connection.rows("look for what may be deleted", NEXT, &params).await?;
    let row = rows.first().ok_or(StoreError::NoRow("look for what may be deleted"))?;
    Ok(row.get::<_, Option<i64>>(0).map(|last| (last, row.get(1))))
}

/// Claims those of `ids` that have been garbage for `grace`, still are, and that nobody can write and
/// no row refers to. No request may be under way any more after `fence`. In the gate, alone.
///
/// # Errors
/// When the query fails or a key cannot be read.
pub async fn claim(
    tx: &Tx<'_>,
    ids: &[i64],
    grace: Duration,
    fence: Duration,
) -> Result<Claim, StoreError> {
    let params: [&(dyn ToSql + Sync); 3] = [&ids, &grace.as_secs_f64(), &fence.as_secs_f64()];
    let mut claim = Claim::default();
    for row in tx.rows("claim", CLAIM, &params).await? {
        (claim.token, claim.at) = (row.get("token"), row.get("at"));
        match row.get::<_, Option<&str>>("key") {
            Some(_) if row.get("external") => claim.external.push(row.get("id")),
            Some(key) => claim.objects.push((row.get("id"), read_text("a key", key)?)),
            None if row.get("needed") => claim.needed.push(row.get("id")),
            None => claim.spared += 1,
        }
    }
    Ok(claim)
}

/// Deletes the rows of claimed objects that are not in the bucket any more, with their references.
/// Rows whose claim has lapsed stay.
///
/// # Errors
/// When the query fails.
pub async fn delete_claimed(tx: &Tx<'_>, token: i64, ids: &[i64]) -> Result<Forgotten, StoreError> {
    let rows = tx.rows("delete claimed rows", DELETE, &[&token, &ids]).await?;
    let row = rows.first().ok_or(StoreError::NoRow("delete claimed rows"))?;
    Ok(Forgotten {
        objects: row.get::<_, i64>(0) as u64,
        bytes: row.get::<_, i64>(1) as u64,
        freed: row.get(2),
    })
}

/// Lets claims lapse of which no request can be under way any more: those of a collector that died,
/// and what S3 did not delete. Answers whether there may be more of them.
///
/// # Errors
/// When the query fails.
pub async fn lapse_claims(tx: &Tx<'_>) -> Result<bool, StoreError> {
    let lapsed = tx.execute("let claims lapse", LAPSE, &[&LAPSE_CHUNK]).await?;
    Ok(lapsed as i64 == LAPSE_CHUNK)
}
