//! Closures: narinfos that were pushed as roots.

use niks3_core::object_key::ObjectKey;

use super::{StoreError, Tx};

const ROOTS: &str = include_str!("sql/roots.sql");
const PUSH: &str = include_str!("sql/push_closures.sql");

/// What the roots of a plan are at this moment.
#[derive(Debug, Default)]
pub struct Roots {
    /// Those whose narinfos are published, and with them, by promise 2, their whole closures.
    pub published: Vec<i64>,
    /// Those among them that are condemned: to be revived.
    pub condemned: Vec<i64>,
    /// One that is being deleted.
    pub claimed: Option<String>,
}

/// Looks up the narinfos of roots. Inside the gate what it says stays true until the transaction
/// ends.
///
/// # Errors
/// When the query fails.
pub async fn roots(tx: &Tx<'_>, narinfos: &[ObjectKey]) -> Result<Roots, StoreError> {
    let keys: Vec<String> = narinfos.iter().map(ToString::to_string).collect();
    let mut roots = Roots::default();
    for row in tx.rows("look up roots", ROOTS, &[&keys]).await? {
        if row.get("claimed") {
            roots.claimed = Some(row.get("key"));
        } else if row.get("stored") {
            roots.published.push(row.get("id"));
            if row.get("condemned") {
                roots.condemned.push(row.get("id"));
            }
        }
    }
    Ok(roots)
}

/// Notes that these narinfos were pushed as roots, now. Inside the gate.
///
/// # Errors
/// When the query fails.
pub async fn push_closures(tx: &Tx<'_>, roots: &[i64]) -> Result<(), StoreError> {
    tx.execute("push closures", PUSH, &[&roots]).await.map(drop)
}

/// How many of these roots are not in the bucket.
///
/// # Errors
/// When the query fails.
pub async fn unpublished(tx: &Tx<'_>, roots: &[i64]) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM unnest($1::bigint[]) AS r(id) \
               WHERE (SELECT true FROM objects o WHERE o.id = r.id \
                      AND (o.stored_at IS NOT NULL OR o.is_external) LIMIT 1) IS NULL";
    let rows = tx.rows("look for unpublished roots", sql, &[&roots]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}
