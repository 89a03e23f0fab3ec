//! Lengths of time as people type them, and as they like to read them.

use std::time::Duration;

use helix_model::Timestamp;

/// Parses `90`, `90s`, `5m`, `2h` or `1d`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("use a number with s, m, h or d, such as `90s` or `5m`".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "use a whole number with s, m, h or d, such as `90s` or `5m`".to_owned())?;
    number
        .checked_mul(factor)
        .map(Duration::from_secs)
        .ok_or_else(|| "that is longer than time is counted here".to_owned())
}

/// The moment a `--since` names: RFC 3339, or so long before `now`.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(moment) = Timestamp::parse(text) {
        return Ok(moment);
    }
    let ago = parse(text)
        .map_err(|_| "use a time such as `2026-01-31T12:00:00Z`, or `5m` for 5 minutes ago")?;
    let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    Ok(Timestamp(now.0.saturating_sub(millis)))
}

/// A length of time in the largest unit that says it exactly.
pub(crate) fn text(seconds: u64) -> String {
    for (unit, length) in [("d", 86400), ("h", 3600), ("m", 60)] {
        if seconds > 0 && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// How long ago, in the largest unit that fits.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// This moment. The one place where the command line reads the clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since_epoch.map_or(0, |elapsed| elapsed.as_millis());
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1d"), Ok(Duration::from_secs(86400)));
        for wrong in ["", "m", "5w", "-1s", "1.5h", "99999999999999999999d", "999999999999999999d"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_written_as_they_were_typed() {
        for typed in ["0s", "90s", "5m", "25h", "90d"] {
            assert_eq!(text(parse(typed).unwrap().as_secs()), typed);
        }
    }

    #[test]
    fn since_is_a_time_or_a_while_ago() {
        let now = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(since("5m", now), Ok(Timestamp::parse("2026-01-31T11:55:00Z").unwrap()));
        assert_eq!(since("2026-01-31T12:00:00Z", now), Ok(now));
        assert!(since("yesterday", now).is_err());
    }

    #[test]
    fn ages_are_short() {
        let at = |seconds: i64| age(Timestamp(0), Timestamp(seconds * 1000));
        assert_eq!([at(0), at(59), at(60), at(7200), at(200_000)], ["0s", "59s", "1m", "2h", "2d"]);
    }
}
