//! A page of ListObjectsV2.

use std::fmt::Write as _;

use s3s::{
    S3, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{EncodingType, ListObjectsV2Input, ListObjectsV2Output},
};
use s3s_fs::FileSystem;

/// Keys in one page:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
const MAX_KEYS: i32 = 1000;
/// s3s-fs fails when an object goes while it looks at it, which is no fault of who asks.
const TRIES: usize = 10;

pub(super) async fn page(
    files: &FileSystem,
    mut req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let asked = req.input.max_keys.unwrap_or(MAX_KEYS);
    req.input.max_keys = Some(asked.clamp(0, MAX_KEYS));
    let encode = req.input.encoding_type.as_ref().is_some_and(|t| t.as_str() == EncodingType::URL);
    let mut tries = 1;
    loop {
        match files.list_objects_v2(req.clone()).await {
            Ok(response) if encode => return Ok(response.map_output(encoded)),
            Err(error) if *error.code() == S3ErrorCode::InternalError && tries < TRIES => {
                tries += 1;
            }
            result => return result,
        }
    }
}

/// What s3s-fs says that it has done.
fn encoded(mut page: ListObjectsV2Output) -> ListObjectsV2Output {
    let objects = page.contents.iter_mut().flatten().map(|object| &mut object.key);
    let prefixes = page.common_prefixes.iter_mut().flatten().map(|prefix| &mut prefix.prefix);
    let rest = [&mut page.prefix, &mut page.delimiter, &mut page.start_after];
    for text in objects.chain(prefixes).chain(rest).flatten() {
        *text = percent_encoded(text);
    }
    page
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            // Writing into a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
