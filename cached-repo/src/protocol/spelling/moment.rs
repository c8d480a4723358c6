//! The texts of dates and times, alike for the crates chrono and time.
//!
//! Does not check that a moment exists: the crate that made it has done so.

/// A moment of chrono as serde has it: RFC 3339, with nanoseconds in groups of three digits.
pub(super) fn chrono(text: &str) -> String {
    let (text, offset) = match text.strip_suffix('Z') {
        Some(text) => (text, "+00:00"),
        None => (text, ""),
    };
    let (before, after) = text.split_once('.').unwrap_or((text, ""));
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = after.split_at(digits);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    [before, point, fraction, rest, offset].concat()
}

/// A moment of the crate time by its numbers; `None` if it is none.
pub(super) fn time(name: &str, numbers: &[i64]) -> Option<String> {
    Some(match (name, numbers) {
        ("TimeDate", &[year, ordinal]) => date(year, ordinal),
        ("TimeTime", &[hour, minute, second, nanosecond]) => {
            clock(hour, minute, second, nanosecond)
        }
        ("TimeDateTime", &[year, ordinal, hour, minute, second, nanosecond]) => {
            let clock = clock(hour, minute, second, nanosecond);
            format!("{}T{clock}", date(year, ordinal))
        }
        (
            "TimeDateTimeWithTimeZone",
            &[
                year,
                ordinal,
                hour,
                minute,
                second,
                nanosecond,
                offset_hours,
                offset_minutes,
                offset_seconds,
            ],
        ) => {
            let clock = clock(hour, minute, second, nanosecond);
            let offset = offset(offset_hours * 3600 + offset_minutes * 60 + offset_seconds);
            format!("{}T{clock}{offset}", date(year, ordinal))
        }
        _ => return None,
    })
}

/// A date by its year and the number of its day in the year, from 1.
fn date(year: i64, ordinal: i64) -> String {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let (mut month, mut day) = (1, ordinal);
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day <= days {
            break;
        }
        day -= days;
        month += 1;
    }
    // As chrono and ISO 8601 have it.
    if (0..=9999).contains(&year) {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{year:+05}-{month:02}-{day:02}")
    }
}

fn clock(hour: i64, minute: i64, second: i64, nanosecond: i64) -> String {
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    if nanosecond == 0 {
        return clock;
    }
    let fraction = format!("{nanosecond:09}");
    format!("{clock}.{}", fraction.trim_end_matches('0'))
}

fn offset(seconds: i64) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let seconds = seconds.abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if seconds == 0 {
        format!("{sign}{hours:02}:{minutes:02}")
    } else {
        format!("{sign}{hours:02}:{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::{chrono, time};

    /// Goal: the two crates spell a moment alike.
    #[test]
    fn chrono_and_time_agree() {
        for (text, name, numbers) in [
            ("2024-02-29", "TimeDate", &[2024, 60][..]),
            ("2023-12-31", "TimeDate", &[2023, 365]),
            ("1900-03-01", "TimeDate", &[1900, 60]),
            ("-0001-01-01", "TimeDate", &[-1, 1]),
            ("+12345-12-31", "TimeDate", &[12345, 365]),
            ("00:00:00", "TimeTime", &[0, 0, 0, 0]),
            ("23:59:59.123456", "TimeTime", &[23, 59, 59, 123_456_000]),
            (
                "2024-05-01T10:00:00.500",
                "TimeDateTime",
                &[2024, 122, 10, 0, 0, 500_000_000],
            ),
            (
                "2024-05-01T10:00:00.100Z",
                "TimeDateTimeWithTimeZone",
                &[2024, 122, 10, 0, 0, 100_000_000, 0, 0, 0],
            ),
            (
                "2024-05-01T10:00:00-00:30",
                "TimeDateTimeWithTimeZone",
                &[2024, 122, 10, 0, 0, 0, 0, -30, 0],
            ),
        ] {
            assert_eq!(Some(chrono(text)), time(name, numbers), "{text}");
        }
        assert_eq!(time("TimeDate", &[1]), None);
    }
}
