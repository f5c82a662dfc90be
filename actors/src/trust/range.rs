//! Values that no ledger can have.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// A value that no ledger can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}; expected {expected}")]
pub struct OutOfRange {
    /// Of what.
    pub name: String,
    /// What it is.
    pub value: String,
    /// What it may be.
    pub expected: String,
}

impl OutOfRange {
    pub(super) fn new(name: impl Display, value: impl Display, expected: impl Display) -> Self {
        Self {
            name: name.to_string(),
            value: value.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// A number in [0, 1].
pub(super) fn share(name: &str, value: f64) -> Result<(), OutOfRange> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(OutOfRange::new(name, value, "0 to 1"))
    }
}

/// A finite number.
pub(super) fn number(name: &str, value: f64) -> Result<(), OutOfRange> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(OutOfRange::new(name, value, "a finite number"))
    }
}

/// A finite number that is not negative.
pub(super) fn at_least_0(name: &str, value: f64) -> Result<(), OutOfRange> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(OutOfRange::new(
            name,
            value,
            "a finite number of at least 0",
        ))
    }
}

/// A count within bounds.
pub(super) fn within(
    name: &str,
    count: u64,
    bounds: RangeInclusive<u64>,
) -> Result<(), OutOfRange> {
    if bounds.contains(&count) {
        return Ok(());
    }
    let expected = if bounds.start() == bounds.end() {
        bounds.start().to_string()
    } else {
        format!("{} to {}", bounds.start(), bounds.end())
    };
    Err(OutOfRange::new(name, count, expected))
}
