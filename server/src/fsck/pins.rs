//! Pins and their files.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use niks3_core::{object_key::ObjectKey, pin_name::PinName, store_path::StorePath};

use super::{Finding, FsckError, Kind, Report, confirm::LOOKS_AT_ONCE};
use crate::{
    store::{self, KnownPin, StoreError},
    upload::Uploads,
};

/// Pins of one query.
const PAGE: usize = 1000;

/// Looks for the pins of files that were listed.
pub(super) async fn check_files(
    cx: &Uploads,
    files: Vec<String>,
    report: &mut Report,
) -> Result<(), FsckError> {
    let mut alone = without_pin(cx, files).await?;
    // A pin that was deleted since the listing has taken its file along, before its row.
    let mut there = Vec::new();
    for file in alone.drain(..) {
        if let Ok(key) = file.parse::<ObjectKey>()
            && cx.bucket.head(&key).await?.is_some()
        {
            there.push(file);
        }
    }
    // And one that was made since had its row first.
    let alone = without_pin(cx, there).await?;
    report.add(alone.iter().map(|file| Finding::of_key(Kind::PinFileWithoutRow, file)));
    Ok(())
}

/// Those of these files that no pin has.
async fn without_pin(cx: &Uploads, mut files: Vec<String>) -> Result<Vec<String>, FsckError> {
    if files.is_empty() {
        return Ok(files);
    }
    let name = |file: &String| file.strip_prefix("pins/").unwrap_or_default().to_owned();
    let names: Vec<String> = files.iter().map(name).collect();
    let pins = store::pins_named(&cx.store.connection().await?, &names).await?;
    files.retain(|file| !pins.iter().any(|pin| pin.name == name(file)));
    Ok(files)
}

/// Looks for the files of pins, and at what they say.
pub(super) async fn check(cx: &Uploads, report: &mut Report) -> Result<(), FsckError> {
    let mut after = String::new();
    loop {
        let page = store::pins_after(&cx.store.connection().await?, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.name);
        let looked: Vec<Option<(Kind, KnownPin)>> = stream::iter(page)
            .map(|pin| async move {
                let kind = look(cx, &pin).await?;
                Ok::<_, FsckError>(kind.map(|kind| (kind, pin)))
            })
            .buffered(LOOKS_AT_ONCE)
            .try_collect()
            .await?;
        let wrong: Vec<(Kind, KnownPin)> = looked.into_iter().flatten().collect();
        if wrong.is_empty() {
            continue;
        }
        // Only what nobody has changed meanwhile.
        let names: Vec<String> = wrong.iter().map(|(_, pin)| pin.name.clone()).collect();
        let now = store::pins_named(&cx.store.connection().await?, &names).await?;
        let same = wrong.iter().filter(|(_, pin)| now.contains(pin));
        report.add(same.map(|(kind, pin)| Finding {
            kind: *kind,
            key: format!("pins/{}", pin.name),
            id: pin.object,
            other: None,
        }));
    }
}

/// What is wrong with the file of a pin, as far as it shall be right at all.
async fn look(cx: &Uploads, pin: &KnownPin) -> Result<Option<Kind>, FsckError> {
    let (true, Some(path)) = (pin.in_sync, &pin.store_path) else { return Ok(None) };
    let corrupt = |what, text: &str| StoreError::Corrupt { what, text: text.to_owned() };
    let name: PinName = pin.name.parse().map_err(|_| corrupt("the name of a pin", &pin.name))?;
    let path: StorePath = path.parse().map_err(|_| corrupt("the path of a pin", path))?;
    let key = ObjectKey::Pin(name);
    Ok(match cx.bucket.get(&key).await? {
        Some(body) => {
            let says = String::from_utf8_lossy(&body);
            let right = says.trim_end() == path.absolute(&cx.store_dir);
            (!right).then_some(Kind::PinFileOther)
        }
        // Asked again in words, as of objects.
        None => cx.bucket.is_missing(&key).await?.then_some(Kind::PinFileMissing),
    })
}
