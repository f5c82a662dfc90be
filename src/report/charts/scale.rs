//! From ticks and bytes to places.

use sage_actors::protocol::Tick;
use serde::Serialize;

/// Width of every drawing, in its own units.
pub const WIDTH: f64 = 1000.0;

/// Where time begins: names stand left of it.
pub const LEFT: f64 = 96.0;

/// Where time ends.
pub const RIGHT: f64 = 982.0;

/// A place on an axis, and what stands there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    pub at: f64,
    pub label: String,
}

/// Places are given to a tenth: finer is not seen, and takes room.
pub fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A step of 1, 2 or 5 times a power of ten that divides `span` into at most `most` parts.
pub fn nice_step(span: f64, most: f64) -> f64 {
    let rough = span / most;
    if !rough.is_finite() || rough <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|step| step * power >= rough * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// Time from left to right.
pub struct Scale {
    ticks: f64,
    /// Ticks of a bin.
    pub bin_ticks: f64,
}

impl Scale {
    pub fn new(ticks: Tick, bin_ticks: Tick) -> Self {
        Self {
            ticks: ticks.max(1) as f64,
            bin_ticks: bin_ticks as f64,
        }
    }

    /// The place of a tick.
    pub fn x(&self, tick: f64) -> f64 {
        let share = (tick / self.ticks).clamp(0.0, 1.0);
        tenth(LEFT + (RIGHT - LEFT) * share)
    }

    /// The place where a bin begins.
    pub fn bin(&self, index: usize) -> f64 {
        self.x(index as f64 * self.bin_ticks)
    }

    /// Bins that end up on the drawing: an answer that ends the run may stand at its last tick, and take none.
    pub fn bins(&self, len: usize) -> usize {
        len.min((self.ticks / self.bin_ticks).ceil() as usize)
    }

    pub fn axis(&self) -> Vec<Mark> {
        let step = nice_step(self.ticks, 10.0).max(1.0);
        let count = (self.ticks / step).floor() as usize;
        (0..=count)
            .map(|index| Mark {
                at: self.x(index as f64 * step),
                label: format!("{:.0}", index as f64 * step),
            })
            .collect()
    }
}

/// Values from the bottom up, in steps that a reader knows.
pub struct Upright {
    top: f64,
    height: f64,
    most: f64,
    step: f64,
}

impl Upright {
    /// Up to `most` over a height, in about `parts` parts. What is measured in bytes has steps of 1, 2 or 5 of a unit.
    pub fn new(most: f64, parts: f64, top: f64, height: f64) -> Self {
        let step = nice_step(most.max(1e-9), parts);
        Self {
            top,
            height,
            most: (most / step).ceil().max(1.0) * step,
            step,
        }
    }

    /// The place of a value.
    pub fn y(&self, value: f64) -> f64 {
        tenth(self.top + self.height * (1.0 - (value / self.most).clamp(0.0, 1.0)))
    }

    pub fn marks(&self, label: impl Fn(f64) -> String) -> Vec<Mark> {
        let count = (self.most / self.step).round() as usize;
        (0..=count)
            .map(|index| index as f64 * self.step)
            .map(|value| Mark {
                at: self.y(value),
                label: label(value),
            })
            .collect()
    }
}

/// The unit that bytes up to `most` are best read in.
pub fn unit(most: u64) -> (f64, &'static str) {
    match most {
        0..0x800 => (1.0, "B"),
        0x800..0x20_0000 => (1024.0, "KiB"),
        0x20_0000..0x8000_0000 => (1_048_576.0, "MiB"),
        _ => (1_073_741_824.0, "GiB"),
    }
}

/// A number without needless zeros.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_nice_and_few() {
        let cases = [
            (640.0, 10.0, 100.0),
            (1.0, 4.0, 0.5),
            (10.0, 10.0, 1.0),
            (0.0, 4.0, 1.0),
        ];
        for (span, most, step) in cases {
            assert_eq!(nice_step(span, most), step, "{span} in {most}");
        }
    }

    #[test]
    fn time_stays_between_its_ends() {
        let scale = Scale::new(640, 1);
        assert_eq!((scale.x(0.0), scale.x(640.0)), (LEFT, RIGHT));
        assert_eq!(scale.x(9_999.0), RIGHT);
        let axis = scale.axis();
        assert_eq!(axis.len(), 7);
        assert_eq!(axis[6].label, "600");
        // A run of no tick at all is drawn, too.
        assert_eq!(Scale::new(0, 1).axis().len(), 2);
    }

    #[test]
    fn the_highest_mark_is_not_below_the_highest_value() {
        let upright = Upright::new(5.62, 4.0, 10.0, 100.0);
        let marks = upright.marks(plain);
        assert_eq!(marks.last().map(|mark| mark.label.as_str()), Some("6"));
        assert_eq!((upright.y(0.0), upright.y(6.0)), (110.0, 10.0));
    }
}
