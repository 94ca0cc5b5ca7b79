//! How long, as people write it: `30m`, `720h`, `30d`.

use std::time::Duration;

/// Parses `90s`, `30m`, `1h30m`, `720h`, `30d`, `4w`. A bare number is refused: its unit would be
/// a guess.
///
/// # Errors
/// When the text is not a duration, or is zero.
pub fn parse(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|why| format!("{text:?} is not a duration such as 30m, 12h or 30d: {why}"))?;
    if duration.is_zero() { Err("it must be longer than zero".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1800), ("720h", 2_592_000), ("30d", 2_592_000), ("1h30m", 5400)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "30", "-1h", "0s", "1 fortnight"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
