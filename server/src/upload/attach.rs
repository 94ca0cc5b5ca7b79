//! The last part of a commit: realisations and debug info, when the narinfos that they are of are
//! published.

use std::collections::BTreeMap;

use niks3_core::{
    object_key::ObjectKey,
    realisation::{OutputId, Realisation},
    store_path::StorePath,
};

use super::{UploadError, Uploads, commit::Wave};
use crate::store::{
    self, ComposableAttachment, ComposedAttachment, NextAttachment, StoreError, Tx, Upload,
};

/// What comes next of an upload's attachments. `next` is not empty.
pub(super) async fn advance(
    cx: &Uploads,
    tx: &Tx<'_>,
    upload: &Upload,
    next: &[NextAttachment],
) -> Result<Wave, UploadError> {
    // All narinfos are done, so what is not there now has gone since.
    if next.iter().any(|one| !one.path_published || one.claimed) {
        return Err(UploadError::Stale);
    }
    // The realisation stays what it is as long as the path does that it is of.
    let others: Vec<i64> = next.iter().filter(|one| one.others).map(|one| one.id).collect();
    store::finish_attachments(tx, upload.number, &others).await?;
    let own = || next.iter().filter(|one| !one.others);
    let there: Vec<_> = own().filter(|one| one.published && one.composed).collect();
    store::attach(tx, upload.number, &there).await?;

    let ready: Vec<i64> =
        own().filter(|one| !one.composed && one.quiet).map(|one| one.id).collect();
    let composable = store::lock_composable_attachments(tx, upload.number, &ready).await?;
    let composed: Vec<ComposedAttachment> =
        composable.iter().map(|one| compose(cx, one)).collect::<Result<_, _>>()?;
    store::compose_attachments(tx, &composed).await?;

    let mut unpublished: Vec<i64> =
        own().filter(|one| one.composed && !one.published).map(|one| one.id).collect();
    unpublished.extend(composed.iter().map(|one| one.id));
    let times = cx.bucket.times;
    let writable = times.writable(times.own_url(), 0);
    let texts = store::take_unpublished(tx, &unpublished, writable).await?;
    if !texts.is_empty() {
        return Ok(Wave::Publish(texts));
    }
    let moved = !there.is_empty() || !others.is_empty();
    Ok(if moved { Wave::Again } else { Wave::Wait })
}

fn compose(cx: &Uploads, of: &ComposableAttachment) -> Result<ComposedAttachment, StoreError> {
    let (text, nar_id) = match &of.key {
        ObjectKey::DebugInfo(id) => (id.compose(&of.nar), Some(of.nar_id)),
        key => (realisation(key, of)?.compose(&cx.signing_keys), None),
    };
    Ok(ComposedAttachment { id: of.id, narinfo_id: of.narinfo_id, text, nar_id })
}

fn realisation(key: &ObjectKey, of: &ComposableAttachment) -> Result<Realisation, StoreError> {
    let corrupt = |what, text: &str| StoreError::Corrupt { what, text: text.to_owned() };
    let id = OutputId::of_key(key).ok_or_else(|| corrupt("a realisation", &key.to_string()))?;
    let dependencies: BTreeMap<OutputId, StorePath> = serde_json::from_str(&of.dependencies)
        .map_err(|_| corrupt("a realisation's dependencies", &of.dependencies))?;
    let signatures = of
        .signatures
        .split_whitespace()
        .map(|text| text.parse().map_err(|_| corrupt("a realisation's signature", text)));
    Ok(Realisation {
        id,
        path: of.path.clone(),
        dependencies,
        signatures: signatures.collect::<Result<_, _>>()?,
    })
}
