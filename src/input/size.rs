//! Sizes as people write them: `512MiB`, `6GiB`, `10%`, `256slots`.

use std::str::FromStr;

/// A size as it was asked for; what a percentage or a slot is worth depends on the model and the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of something, above 0 and at most 100.
    Percent(f64),
    /// So many experts.
    Slots(u64),
}

/// A size that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It is none.
    #[error("`{0}` is not a size; expected for example 512MiB, 6GiB, 10% or 256slots")]
    Unknown(String),
    /// It is no memory limit.
    #[error("`{0}` is not a size; expected for example 512MiB, 6GiB, 25%, 64slots, or none")]
    NoLimit(String),
    /// A number that says nothing without a unit.
    #[error(
        "`{0}` has no unit: is it {0}MiB, {0}GiB, {0}slots (experts) or {0}% (of everything resident)?"
    )]
    NoUnit(String),
}

impl SizeError {
    /// The same of a memory limit, which may also be `none`.
    pub fn of_limit(self) -> Self {
        match self {
            Self::Unknown(text) => Self::NoLimit(text),
            other => other,
        }
    }
}

/// Units in bytes; a bare number is in bytes too.
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text.trim()).ok_or_else(|| SizeError::Unknown(text.to_owned()))
    }
}

/// Whether a size is a number without a unit.
pub fn lacks_unit(text: &str) -> bool {
    let text = text.trim();
    text.parse::<f64>().is_ok() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'))
}

fn parse(text: &str) -> Option<Size> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    match unit.as_str() {
        "%" => {
            let percent: f64 = number.parse().ok()?;
            (percent > 0.0 && percent <= 100.0).then_some(Size::Percent(percent))
        }
        "slot" | "slots" => number.parse().ok().map(Size::Slots),
        _ => {
            let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
            if let Ok(whole) = number.parse::<u64>() {
                return whole.checked_mul(factor).map(Size::Bytes);
            }
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            (bytes.is_finite() && bytes < u64::MAX as f64).then_some(Size::Bytes(bytes as u64))
        }
    }
}

/// Bytes for people: `9.00 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.2} {}", units[unit])
}

/// Two sizes for one sentence: as `shown` has them, or in bytes where they would look alike and are not.
pub fn two_sizes(one: u64, other: u64, shown: impl Fn(u64) -> String) -> [String; 2] {
    let rounded = [one, other].map(shown);
    match one != other && rounded[0] == rounded[1] {
        true => [one, other].map(|bytes| counted(bytes, "byte")),
        false => rounded,
    }
}

/// `1 token`, `2 tokens`.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("512MiB", Some(Size::Bytes(512 << 20))),
            ("6GiB", Some(Size::Bytes(6 << 30))),
            ("1.5 GiB", Some(Size::Bytes(3 << 29))),
            ("2GB", Some(Size::Bytes(2_000_000_000))),
            ("4096", Some(Size::Bytes(4096))),
            ("10%", Some(Size::Percent(10.0))),
            ("256slots", Some(Size::Slots(256))),
            ("0%", None),
            ("101%", None),
            ("-1MiB", None),
            ("", None),
            ("MiB", None),
            ("1.2.3GiB", None),
            ("99999999999999TiB", None),
            ("6GiBs", None),
            ("2.5slots", None),
        ];
        for (text, size) in cases {
            assert_eq!(text.parse::<Size>().ok(), size, "{text}");
        }
    }

    #[test]
    fn bytes_for_people() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (9_437_184, "9.00 MiB"),
            (70_519_637_090, "65.68 GiB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(human_bytes(bytes), shown);
        }
    }

    #[test]
    fn two_sizes_that_differ_look_different() {
        let sizes = |one, other| two_sizes(one, other, human_bytes).join(" < ");
        assert_eq!(sizes(48 << 20, 49 << 20), "48.00 MiB < 49.00 MiB");
        assert_eq!(
            sizes(48 << 20, (48 << 20) + 1),
            "50331648 bytes < 50331649 bytes"
        );
        assert_eq!(sizes(0, 1), "0 B < 1 B");
        assert_eq!(sizes(48 << 20, 48 << 20), "48.00 MiB < 48.00 MiB");
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "token")),
            ["0 tokens", "1 token", "2 tokens"]
        );
    }
}
