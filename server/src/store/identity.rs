//! Which PostgreSQL wrote this database, and what the bucket has to show for it.

use niks3_core::object_key::RandomPart;
use tokio_postgres::Row;

use super::{Connection, StoreError, read_text};

const IDENTITY: &str = include_str!("sql/identity.sql");
const FIRST: &str = include_str!("sql/first_identity.sql");
const CONFIRM: &str = include_str!("sql/confirm_generation.sql");
const RECORD: &str = include_str!("sql/record_identity.sql");

/// A PostgreSQL: another one, or this one restored from a backup, has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `pg_control_system().system_identifier`
    pub system: i64,
    /// Of the write-ahead log: a standby that took over has another.
    pub timeline: i32,
    /// The database's oid.
    pub database: u32,
}

/// The collections that the database knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// The last one that is in the bucket; 0: none is.
    pub number: u64,
    /// Its name.
    pub name: Option<RandomPart>,
    /// The name of the one after it, which may be in the bucket or come there.
    pub next: Option<RandomPart>,
}

impl Generation {
    /// The database was empty when it first met its bucket, and the bucket was not. That is remembered as a
    /// name of no generation, or the first push would make the database look as if it had always been there.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.number == 0 && self.name.is_some()
    }
}

/// What is known, and what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The PostgreSQL that answers.
    pub cluster: Cluster,
    /// What was written down. `None`: nothing yet.
    pub recorded: Option<(Cluster, Generation)>,
    /// The database knows no object.
    pub empty: bool,
}

/// Looks both up.
///
/// # Errors
/// When the query fails, or a row cannot be read.
pub async fn identity(connection: &Connection) -> Result<Identity, StoreError> {
    let rows = connection.rows("look up the identity", IDENTITY, &[]).await?;
    let row = rows.first().ok_or(StoreError::NoRow("look up the identity"))?;
    let cluster = Cluster {
        system: row.get("system"),
        timeline: row.get("timeline"),
        database: row.get("database"),
    };
    let recorded = match row.get::<_, Option<i64>>("known_system") {
        None => None,
        Some(system) => Some((
            Cluster {
                system,
                timeline: row.get("known_timeline"),
                database: row.get("known_database"),
            },
            Generation {
                number: row.get::<_, i64>("generation") as u64,
                name: name(row, "generation_name")?,
                next: name(row, "next_name")?,
            },
        )),
    };
    Ok(Identity { cluster, recorded, empty: row.get("empty") })
}

fn name(row: &Row, column: &str) -> Result<Option<RandomPart>, StoreError> {
    let text: Option<&str> = row.get(column);
    text.map(|text| read_text("a generation's name", text)).transpose()
}

/// Writes down that this PostgreSQL has the database now, with that generation.
///
/// # Errors
/// When the query fails.
pub async fn record_identity(
    connection: &Connection,
    number: u64,
    name: Option<RandomPart>,
) -> Result<(), StoreError> {
    let name = name.map(|name| name.to_string());
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&(number as i64), &name];
    connection.execute("record the identity", RECORD, &params).await.map(drop)
}

/// Writes down the name of the generation that will come next, before it is in the bucket.
///
/// # Errors
/// When the query fails.
pub async fn set_next_generation(
    connection: &Connection,
    name: RandomPart,
) -> Result<(), StoreError> {
    let sql = "UPDATE identity SET next_name = $1";
    connection.execute("name the next generation", sql, &[&name.to_string()]).await.map(drop)
}

/// Writes down which PostgreSQL this is, if nobody has. With a name, that the database [is
/// new](Generation::is_new).
///
/// # Errors
/// When the query fails.
pub async fn first_identity(
    connection: &Connection,
    new: Option<RandomPart>,
) -> Result<(), StoreError> {
    let new = new.map(|name| name.to_string());
    connection.execute("record the identity", FIRST, &[&new]).await.map(drop)
}

/// Writes down that a generation is in the bucket that was [named](set_next_generation) before. `false`:
/// something else was written down since.
///
/// # Errors
/// When the query fails.
pub async fn confirm_generation(
    connection: &Connection,
    cluster: Cluster,
    number: u64,
    name: RandomPart,
) -> Result<bool, StoreError> {
    let (number, name) = (number as i64, name.to_string());
    let Cluster { system, timeline, database } = cluster;
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&number, &name, &system, &timeline, &database];
    Ok(connection.execute("confirm a generation", CONFIRM, &params).await? > 0)
}
