//! What reading a sensor came to.

use super::Garbled;

/// What reading one kind of sensor came to.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the kind's unit; none where there is no such sensor, or nothing that makes sense.
    pub value: Option<f64>,
    /// Where it comes from, with what it says there.
    pub from: Vec<String>,
    /// Files that make no sense.
    pub garbled: Vec<Garbled>,
}

impl Sample {
    /// Takes what a file said, or that it makes no sense; none if there is no such file.
    pub(super) fn keep<T>(&mut self, read: Result<Option<T>, Garbled>) -> Option<T> {
        match read {
            Ok(found) => found,
            Err(garbled) => {
                self.garbled.push(garbled);
                None
            }
        }
    }

    /// Takes a value if it is the least so far.
    pub(super) fn least(&mut self, value: f64) {
        self.value = Some(self.value.map_or(value, |least| least.min(value)));
    }
}
