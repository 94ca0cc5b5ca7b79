//! An error's causes, as a person should read them.

use std::error::Error;

/// What an error says, then what caused it, and so on. Some libraries repeat their cause's words in
/// their own: what has just been said is not said again.
#[must_use]
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.last().is_some_and(|last| last.contains(&text)) {
            said.push(text);
        }
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        let source = (!rest.is_empty()).then(|| Box::new(layers(rest)));
        Layer { text, source }
    }

    #[test]
    fn each_cause_is_said_once() {
        let error = layers(&["cannot connect", "pool: db error", "db error", "FATAL: no such db"]);
        assert_eq!(causes(&error), ["cannot connect", "pool: db error", "FATAL: no such db"]);
    }
}
