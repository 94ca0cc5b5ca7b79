//! What narinfos say in the bucket, beside what was recorded.
//!
//! Only where database and bucket are not believed to belong together: each narinfo is read.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::object_key::{ObjectKey, ObjectKind};

use super::FsckError;
use crate::{
    s3::S3Error,
    store,
    upload::{self, Uploads},
};

/// Narinfos that are read at once.
const READS_AT_ONCE: usize = 32;

/// Rows of one query.
const PAGE: usize = 500;

/// Voids what was recorded of narinfos that say something else in the bucket: they were composed again after
/// the moment that the database is from. Then they are adopted as they are there. Answers how many.
pub(super) async fn void_others(cx: &Uploads) -> Result<usize, FsckError> {
    let (mut after, mut voided) = (String::new(), 0);
    loop {
        let connection = cx.store.connection().await?;
        let page = store::objects_after(&connection, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(voided) };
        after.clone_from(&last.key);
        let narinfos = page.iter().filter(|row| row.stored.is_some() && !row.claimed);
        let narinfos =
            narinfos.filter_map(|row| Some((row.id, row.key.parse::<ObjectKey>().ok()?)));
        let narinfos: Vec<(i64, ObjectKey)> =
            narinfos.filter(|(_, key)| key.kind() == ObjectKind::NarInfo).collect();
        let ids: Vec<i64> = narinfos.iter().map(|(id, _)| *id).collect();
        let texts: std::collections::HashMap<i64, String> =
            store::narinfo_texts(&connection, &ids).await?.into_iter().collect();
        drop(connection);
        let texts = &texts;
        let others: Vec<Option<i64>> = stream::iter(narinfos)
            .map(|(id, key)| async move {
                // One that is missing is found by the listing.
                let Some(there) = cx.bucket.text(&key).await? else { return Ok(None) };
                Ok::<_, S3Error>((there.as_ref() != texts.get(&id)).then_some(id))
            })
            .buffer_unordered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let others: Vec<i64> = others.into_iter().flatten().collect();
        voided += others.len();
        upload::retry(|| async {
            let mut connection = cx.store.connection().await?;
            let tx = connection.begin().await?;
            tx.enter_gate_alone().await?;
            store::void_narinfos(&tx, &others).await?;
            Ok(tx.commit().await?)
        })
        .await?;
    }
}
