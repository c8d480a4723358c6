//! The texts of decimals.
//!
//! Does not know which of them a database rounds.

/// One text per number: 1.5 and 1.5000 are equal in every database.
pub(super) fn decimal(number: &str) -> String {
    /// The most zeros that are written out.
    const PLACES: i64 = 40;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let Ok(exponent) = exponent.parse::<i64>() else {
        return [sign, number].concat();
    };
    let significant = digits.trim_start_matches('0');
    // The number is 0.digits × 10^point.
    let point = (whole.len() + significant.len()) as i64 - digits.len() as i64 + exponent;
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return "0".into();
    }
    let len = digits.len() as i64;
    if point < -PLACES || point > len.max(PLACES) {
        return format!("{sign}0.{digits}e{point}");
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    if point <= 0 {
        format!("{sign}0.{}{digits}", zeros(-point))
    } else if point >= len {
        format!("{sign}{digits}{}", zeros(point - len))
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn equal_decimals_have_one_text() {
        let one_and_a_half = ["1.5", "1.50000", "15e-1", "0.0015E+3", "001.5"];
        for (number, text) in one_and_a_half
            .map(|number| (number, "1.5"))
            .into_iter()
            .chain([
                ("0", "0"),
                ("-0.000", "0"),
                ("0E-100", "0"),
                ("-1000", "-1000"),
                ("-1e3", "-1000"),
                ("1E+39", "1000000000000000000000000000000000000000"),
                ("10E+39", "0.1e41"),
                ("0.00100", "0.001"),
                ("12.30e-60", "0.123e-58"),
                (
                    "-7.9228162514264337593543950335",
                    "-7.9228162514264337593543950335",
                ),
            ])
        {
            assert_eq!(decimal(number), text, "{number}");
        }
    }
}
