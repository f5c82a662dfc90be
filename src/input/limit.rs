//! A memory limit as people write it: `512MiB`, `25%`, `64slots`, or `none`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::size::{Size, SizeError, lacks_unit};

/// No process fits into less: a number below is one whose unit was left out.
const LEAST_BARE_BYTES: u64 = 1 << 20;

/// What a limit is given as.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Whatever the model wants.
    None,
    /// Of the whole process.
    Bytes(u64),
    /// Of what the process would take with every expert in memory, in percent.
    Percent(f64),
    /// Room for this many experts beyond the floor.
    Slots(u64),
}

impl From<Size> for Limit {
    fn from(size: Size) -> Self {
        match size {
            Size::Bytes(bytes) => Limit::Bytes(bytes),
            Size::Percent(percent) => Limit::Percent(percent),
            Size::Slots(slots) => Limit::Slots(slots),
        }
    }
}

impl FromStr for Limit {
    type Err = SizeError;

    /// A size, or `none`. A bare number is in bytes where it can be, as a scenario may have it; one below 1 MiB lacks its unit.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Limit::None);
        }
        let size = text.parse::<Size>();
        if lacks_unit(text) && !matches!(size, Ok(Size::Bytes(LEAST_BARE_BYTES..))) {
            return Err(SizeError::NoUnit(text.trim().to_owned()));
        }
        size.map(Limit::from).map_err(SizeError::of_limit)
    }
}

/// In the largest unit that states it exactly, as [`FromStr`] reads it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Limit::None => f.write_str("none"),
            Limit::Percent(percent) => write!(f, "{percent}%"),
            Limit::Slots(slots) => write!(f, "{slots}slots"),
            Limit::Bytes(bytes) => {
                let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
                let exact = |(_, bits): &&(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= *bits;
                match units.iter().find(exact) {
                    Some((unit, bits)) => write!(f, "{}{unit}", bytes >> bits),
                    None => write!(f, "{bytes}B"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_written_as_it_is_read() {
        for (limit, text) in [
            (Limit::None, "none"),
            (Limit::Bytes(6 << 30), "6GiB"),
            (Limit::Bytes(1536 << 20), "1536MiB"),
            (Limit::Bytes(3 << 10), "3KiB"),
            (Limit::Bytes(1_000_001), "1000001B"),
            (Limit::Bytes(0), "0B"),
            (Limit::Bytes(u64::MAX), "18446744073709551615B"),
            (Limit::Percent(12.5), "12.5%"),
            (Limit::Slots(96), "96slots"),
        ] {
            assert_eq!(limit.to_string(), text);
            assert_eq!(text.parse::<Limit>(), Ok(limit));
        }
    }

    /// Recordings hold limits so.
    #[test]
    fn the_serialised_form_stays() {
        for (limit, json) in [
            (Limit::None, r#""none""#),
            (Limit::Bytes(7), r#"{"bytes":7}"#),
            (Limit::Percent(25.0), r#"{"percent":25.0}"#),
            (Limit::Slots(96), r#"{"slots":96}"#),
        ] {
            assert_eq!(serde_json::to_string(&limit).expect("JSON"), json);
            assert_eq!(serde_json::from_str::<Limit>(json).expect("a limit"), limit);
        }
    }
}
