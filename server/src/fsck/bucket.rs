//! The bucket beside the table of objects, both in the order of keys.

use std::collections::VecDeque;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::object_key::{ObjectKey, ObjectKind};

use super::{
    Finding, FsckError, Kind, Report, adopt,
    confirm::{LOOKS_AT_ONCE, Suspect, confirm},
    pins,
};
use crate::{
    s3::{Bucket, Listed},
    store::{self, KnownObject, Store},
    upload::Uploads,
};

/// Rows of one query.
const PAGE: usize = 1000;

/// Suspects that are looked at together.
const CONFIRM_AT: usize = 1000;

/// A page for people that a cache may have: neither an object of ours nor a stranger's.
const INDEX: &str = "index.html";

/// Finds out in what bucket and table differ.
pub(super) async fn check(
    cx: &Uploads,
    fenced: bool,
    report: &mut Report,
) -> Result<(), FsckError> {
    let (page, last, ended) = (VecDeque::new(), String::new(), false);
    let mut listing = Listing { bucket: &cx.bucket, page, last, ended };
    let (page, last) = (VecDeque::new(), String::new());
    let mut table = Table { store: &cx.store, page, last, ended };
    let (mut suspects, mut pin_files) = (Vec::new(), Vec::new());
    let (mut in_bucket, mut strangers) = (0, 0);
    loop {
        listing.fill().await?;
        table.fill().await?;
        let (there, row) = (listing.page.front(), table.page.front());
        let order = match (there, row) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(there), Some(row)) => there.key.cmp(&row.key),
        };
        let there = if order.is_le() { listing.page.pop_front() } else { None };
        let row = if order.is_ge() { table.page.pop_front() } else { None };
        if let Some(there) = &there {
            match there.key.parse::<ObjectKey>().map(|key| key.kind()) {
                Ok(kind) => {
                    in_bucket += 1;
                    if kind == ObjectKind::Pin {
                        pin_files.push(there.key.clone());
                    }
                }
                Err(_) if there.key == INDEX => {}
                Err(_) => report.foreign += 1,
            }
        }
        suspects.extend(suspect(there, row));
        if suspects.len() >= CONFIRM_AT {
            strangers += add(cx, fenced, std::mem::take(&mut suspects), report).await?;
        }
        if pin_files.len() >= CONFIRM_AT {
            pins::check_files(cx, std::mem::take(&mut pin_files), report).await?;
        }
    }
    strangers += add(cx, fenced, suspects, report).await?;
    pins::check_files(cx, pin_files, report).await?;
    report.foreign += strangers;
    report.in_bucket = Some(in_bucket - strangers);
    Ok(())
}

/// Reports those that are confirmed, but for narinfos that something else has written. Answers how many these
/// are.
async fn add(
    cx: &Uploads,
    fenced: bool,
    suspects: Vec<Suspect>,
    report: &mut Report,
) -> Result<u64, FsckError> {
    let looked: Vec<Option<Finding>> = stream::iter(confirm(cx, fenced, suspects).await?)
        .map(|finding| async move {
            let foreign = finding.kind == Kind::ObjectWithoutRow
                && match finding.key.parse() {
                    Ok(ObjectKey::NarInfo(hash)) => adopt::is_foreign(cx, hash).await?,
                    _ => false,
                };
            Ok::<_, FsckError>((!foreign).then_some(finding))
        })
        .buffered(LOOKS_AT_ONCE)
        .try_collect()
        .await?;
    let foreign = looked.iter().filter(|finding| finding.is_none()).count() as u64;
    report.add(looked.into_iter().flatten());
    Ok(foreign)
}

/// What may be wrong with an object in the bucket and its row.
fn suspect(there: Option<Listed>, row: Option<KnownObject>) -> Option<Suspect> {
    let key: ObjectKey = match (&there, &row) {
        (Some(there), _) => there.key.parse().ok()?,
        (None, Some(row)) => row.key.parse().ok()?,
        (None, None) => return None,
    };
    let has_row = match key.kind() {
        ObjectKind::NarInfo
        | ObjectKind::Nar
        | ObjectKind::Listing
        | ObjectKind::Log
        | ObjectKind::Realisation
        | ObjectKind::BuildTrace
        | ObjectKind::DebugInfo => true,
        ObjectKind::CacheInfo | ObjectKind::Pin | ObjectKind::Generation => false,
    };
    let kind = match (&there, &row) {
        (Some(_), None) => has_row.then_some(Kind::ObjectWithoutRow),
        (_, Some(row)) if row.claimed => None,
        (None, Some(row)) => row.stored.map(|_| Kind::StoredNotThere),
        (Some(there), Some(row)) if row.stored.is_some() => {
            let sizes = there.bytes.zip(row.bytes);
            sizes.and_then(|(is, should)| (is != should).then_some(Kind::OtherSize))
        }
        (Some(_), Some(_)) => {
            (key.kind() == ObjectKind::NarInfo).then_some(Kind::NotStoredButThere)
        }
        (None, None) => None,
    };
    Some(Suspect { kind: kind?, key, row })
}

/// The bucket, page by page.
struct Listing<'a> {
    bucket: &'a Bucket,
    page: VecDeque<Listed>,
    last: String,
    ended: bool,
}

impl Listing<'_> {
    /// Has the next page ready, if there is one.
    async fn fill(&mut self) -> Result<(), FsckError> {
        if self.ended || !self.page.is_empty() {
            return Ok(());
        }
        let page = self.bucket.list("", &self.last).await?;
        for listed in &page {
            if listed.key <= self.last {
                let (before, key) = (self.last.clone(), listed.key.clone());
                return Err(FsckError::Order { before, key });
            }
            self.last.clone_from(&listed.key);
        }
        self.ended = page.is_empty();
        self.page = page.into();
        Ok(())
    }
}

/// The table of objects, page by page.
struct Table<'a> {
    store: &'a Store,
    page: VecDeque<KnownObject>,
    last: String,
    ended: bool,
}

impl Table<'_> {
    /// Has the next page ready, if there is one.
    async fn fill(&mut self) -> Result<(), FsckError> {
        if self.ended || !self.page.is_empty() {
            return Ok(());
        }
        // A connection for each: S3 is waited for in between, and a push may need it.
        let connection = self.store.connection().await?;
        self.page = store::objects_after(&connection, &self.last, PAGE).await?.into();
        match self.page.back() {
            Some(row) => self.last.clone_from(&row.key),
            None => self.ended = true,
        }
        Ok(())
    }
}
