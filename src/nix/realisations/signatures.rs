//! Signatures of a realisation as they stand in the database.

use niks3_core::signing::Signature;
use serde::Deserialize;

/// One of a list in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    #[serde(rename_all = "camelCase")]
    Fields {
        key_name: String,
        sig: String,
    },
}

/// Those that can be read: separated by spaces, or a list in JSON of texts or of names and signatures.
pub(super) fn parse(column: Option<&str>) -> Vec<Signature> {
    let column = column.unwrap_or_default().trim();
    if !column.starts_with('[') {
        return column.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    }
    let written: Vec<serde_json::Value> = serde_json::from_str(column).unwrap_or_default();
    let texts = written.into_iter().filter_map(|signature| {
        Some(match serde_json::from_value(signature).ok()? {
            Written::Text(text) => text,
            Written::Fields { key_name, sig } => format!("{key_name}:{sig}"),
        })
    });
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_in_every_form_and_nonsense_is_left_out() {
        let sig = format!("{}==", "A".repeat(86));
        let expected: Vec<Signature> = vec![format!("k-1:{sig}").parse().unwrap()];
        for column in [
            format!("k-1:{sig}"),
            format!(" x k-1:{sig}  k-2:AAAA "),
            format!(r#"["k-1:{sig}", "x", 7]"#),
            format!(r#"[{{"keyName":"k-1","sig":"{sig}"}}, {{"keyName":"k-1"}}]"#),
        ] {
            assert_eq!(parse(Some(&column)), expected, "{column}");
        }
        for column in [None, Some(""), Some("["), Some("[1"), Some("x")] {
            assert_eq!(parse(column), [], "{column:?}");
        }
    }
}
