//! How keys and values are kept, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the keys and values of a context are kept. Rounded ones take less memory, and change what is answered a little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvPrecision {
    /// As they are computed, four bytes a number: the reference's answers.
    #[default]
    #[serde(rename = "f32")]
    Exact,
    /// Rounded to brain floats, two bytes a number.
    #[serde(rename = "bf16")]
    Half,
    /// Rounded to blocks of 32 numbers of eight bits with a common scale, 17 bytes for 16 numbers.
    #[serde(rename = "q8")]
    Quarter,
}

impl KvPrecision {
    /// All of them, the most exact first.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Half, Self::Quarter];

    /// Its name in settings, options and recordings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "f32",
            Self::Half => "bf16",
            Self::Quarter => "q8",
        }
    }

    /// Whether nothing is rounded.
    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

impl fmt::Display for KvPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvPrecision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|precision| precision.name() == text);
        found.ok_or_else(|| {
            format!("`{text}` is not how keys and values are kept; expected f32, bf16 or q8")
        })
    }
}
