//! The little XML that we read and write ourselves: what S3 says when it refuses, and text in it.

/// The code in S3's XML error, such as `NoSuchBucket`. Only what looks like one is passed on: the
/// rest of the answer may repeat the request, signature included.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
#[must_use]
pub fn code(xml: &[u8]) -> Option<String> {
    const LONGEST: usize = 64;
    let xml = String::from_utf8_lossy(xml);
    let (code, _) = xml.split_once("<Code>")?.1.split_once("</Code>")?;
    let plain = (1..=LONGEST).contains(&code.len());
    (plain && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| code.to_owned())
}

/// Text as it stands in XML.
#[must_use]
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_s3_error_is_read_and_nothing_else() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>x</Message>";
        assert_eq!(code(xml).as_deref(), Some("NoSuchBucket"));
        for other in ["<Code>a\nb</Code>", "<Code>https://x?y</Code>", "<Code></Code>", "<html>"] {
            assert_eq!(code(other.as_bytes()), None, "{other}");
        }
    }
}
