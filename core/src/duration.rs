//! How long, as people write it: `30m`, `720h`, `30d`.

use std::time::Duration;

/// Parses `90s`, `30m`, `1h30m`, `720h`, `30d`, `4w`. A bare number is refused: its unit would be
/// a guess.
///
/// # Errors
/// When the text is not a duration, or is zero.
pub fn parse(text: &str) -> Result<Duration, String> {
    let duration = parse_or_zero(text)?;
    if duration.is_zero() { Err("it must be longer than zero".to_owned()) } else { Ok(duration) }
}

/// The same where `0s` (or `0`, which needs no unit) is a sensible answer.
///
/// # Errors
/// When the text is not a duration.
pub fn parse_or_zero(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|why| format!("{text:?} is not a duration such as 30m, 12h or 30d: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("720h", 2_592_000),
            ("30d", 2_592_000),
            ("4w", 2_419_200),
            ("1h30m", 5400),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "30", "-1h", "0s", "1 fortnight"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn zero_is_taken_where_it_is_asked_for() {
        for text in ["0s", "0h", "0d", "0"] {
            assert_eq!(parse_or_zero(text), Ok(Duration::ZERO), "{text}");
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse_or_zero("4w"), parse("28d"));
        assert!(parse_or_zero("").is_err() && parse_or_zero("30").is_err());
    }
}
