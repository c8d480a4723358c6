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

/// The same, in UTC. RFC 3339 has no seconds in an offset, and chrono rounds them away; `debug` has
/// them: `…(Some(1937-06-30T23:19:32.250+00:19:32))`.
pub(super) fn chrono_in_utc(text: &str, debug: &str) -> String {
    let text = chrono(text);
    utc_of(&text, debug).unwrap_or(text)
}

fn utc_of(text: &str, debug: &str) -> Option<String> {
    let (date, clock) = text.split_once('T')?;
    let at = clock.find(['+', '-'])?;
    let (clock, rounded) = clock.split_at(at);
    let precise = debug.trim_end_matches(')');
    let precise = precise.rfind(['+', '-']).map(|at| &precise[at..]);
    let offset = precise.and_then(seconds).or_else(|| seconds(rounded))?;
    let mut date = date.rsplitn(3, '-');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let second = clock_seconds(whole)? - offset;
    let day = days_of(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let point = if fraction.is_empty() { "" } else { "." };
    Some([&moment_of(day, second), point, fraction, "+00:00"].concat())
}

/// An offset in seconds.
fn seconds(offset: &str) -> Option<i64> {
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    Some(sign * clock_seconds(&offset[1..])?)
}

fn clock_seconds(clock: &str) -> Option<i64> {
    let mut seconds = 0;
    let mut parts = clock.split(':');
    for unit in [3600, 60, 1] {
        let part = parts.next().map_or(Ok(0), str::parse::<i64>).ok()?;
        seconds += part * unit;
    }
    parts.next().is_none().then_some(seconds)
}

/// Days since 0000-03-01 in the Gregorian calendar. A year that begins in March ends with its leap
/// day.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month > 2 {
        true => (year, month - 3),
        false => (year - 1, month + 9),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1
}

/// The date and the time so many seconds after a day's midnight.
fn moment_of(day: i64, seconds: i64) -> String {
    /// Of 400 years.
    const ERA: i64 = 146_097;
    let day = day + seconds.div_euclid(86_400);
    let seconds = seconds.rem_euclid(86_400);
    let (era, day) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (month * 153 + 2) / 5 + 1;
    let (year, month) = (era * 400 + year, month + 3);
    let (year, month) = match month > 12 {
        true => (year + 1, month - 12),
        false => (year, month),
    };
    let clock = clock(seconds / 3600, seconds / 60 % 60, seconds % 60, 0);
    format!("{}T{clock}", calendar(year, month, day))
}

/// A moment of the crate time by its numbers; `None` if it is none.
pub(super) fn time(name: &str, numbers: &[i64], in_utc: bool) -> Option<String> {
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
            let seconds = offset_hours * 3600 + offset_minutes * 60 + offset_seconds;
            let clock = clock(hour, minute, second, nanosecond);
            let text = format!("{}T{clock}{}", date(year, ordinal), offset(seconds));
            match in_utc {
                true => utc_of(&text, "")?,
                false => text,
            }
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
    calendar(year, month, day)
}

/// As chrono and ISO 8601 have it.
fn calendar(year: i64, month: i64, day: i64) -> String {
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
    use super::{chrono, chrono_in_utc, time};

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
            assert_eq!(Some(chrono(text)), time(name, numbers, false), "{text}");
        }
        assert_eq!(time("TimeDate", &[1], false), None);
    }

    /// Goal: a moment has one text in UTC, over the ends of days, months and years, leap days and
    /// offsets with seconds.
    #[test]
    fn a_moment_has_one_text_in_utc() {
        for (text, debug, expected) in [
            ("2024-05-01T12:00:00+02:00", "", "2024-05-01T10:00:00+00:00"),
            (
                "2024-03-01T00:30:00.50+01:00",
                "",
                "2024-02-29T23:30:00.5+00:00",
            ),
            ("2023-03-01T00:30:00+01:00", "", "2023-02-28T23:30:00+00:00"),
            ("1900-02-28T23:30:00-00:30", "", "1900-03-01T00:00:00+00:00"),
            ("2000-02-28T23:30:00-00:30", "", "2000-02-29T00:00:00+00:00"),
            ("2024-12-31T20:00:00-09:30", "", "2025-01-01T05:30:00+00:00"),
            (
                "0000-01-01T00:00:00+00:01",
                "",
                "-0001-12-31T23:59:00+00:00",
            ),
            ("-0044-03-15T01:02:03Z", "", "-0044-03-15T01:02:03+00:00"),
            (
                "+12345-12-31T23:00:00-02:00",
                "",
                "+12346-01-01T01:00:00+00:00",
            ),
            (
                "1937-06-30T23:19:32.25+00:20",
                "DateTime(Some(1937-06-30T23:19:32.250+00:19:32))",
                "1937-06-30T23:00:00.25+00:00",
            ),
        ] {
            assert_eq!(chrono_in_utc(text, debug), expected, "{text}");
        }
        let numbers = [2024, 122, 1, 0, 0, 5, 2, 0, 1];
        assert_eq!(
            time("TimeDateTimeWithTimeZone", &numbers, true).as_deref(),
            Some("2024-04-30T22:59:59.000000005+00:00")
        );
    }
}
