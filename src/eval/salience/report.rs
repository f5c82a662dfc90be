//! What was found, with intervals.

use sage_actors::snarc::WARM_UP_SEGMENTS;
use serde::Serialize;

use super::SalienceEvalSettings;
use super::pieces::Domain;
use super::reader::AssessedPiece;

/// A surprise beyond this counts as one.
pub const SURPRISED: f32 = 0.3;

/// A share of a count, with Wilson's 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Proportion {
    /// How many did.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// The share; 0 of nothing.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Percentile 97.5 of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

impl Proportion {
    /// `count` of `of`.
    pub fn new(count: usize, of: usize) -> Self {
        let n = of as f64;
        if of == 0 {
            return Self {
                high: 1.0,
                ..Self::default()
            };
        }
        let p = count as f64 / n;
        let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        Self {
            count,
            of,
            value: p,
            low: (middle - half).max(0.0),
            high: (middle + half).min(1.0),
        }
    }

    fn of(assessed: &[AssessedPiece], is: impl Fn(&AssessedPiece) -> bool) -> Self {
        Self::new(
            assessed.iter().filter(|one| is(one)).count(),
            assessed.len(),
        )
    }

    /// All of them together.
    pub fn sum<'a>(shares: impl Iterator<Item = &'a Proportion>) -> Self {
        let (count, of) = shares.fold((0, 0), |(count, of), share| {
            (count + share.count, of + share.of)
        });
        Self::new(count, of)
    }
}

/// Mean salience of some pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Mean {
    pub surprise: f64,
    pub novelty: f64,
    pub arousal: f64,
    pub conflict: f64,
    /// What moves states.
    pub drive: f64,
}

impl Mean {
    fn of(assessed: &[AssessedPiece]) -> Self {
        let n = assessed.len().max(1) as f64;
        let mean = |part: fn(&AssessedPiece) -> f32| {
            assessed.iter().map(|one| f64::from(part(one))).sum::<f64>() / n
        };
        Self {
            surprise: mean(|one| one.salience.surprise),
            novelty: mean(|one| one.salience.novelty),
            arousal: mean(|one| one.salience.arousal),
            conflict: mean(|one| one.salience.conflict),
            drive: mean(|one| one.salience.drive),
        }
    }
}

/// One domain read from its beginning to its end; the pieces of the warm-up are not counted.
#[derive(Clone, Debug, Serialize)]
pub struct Inside {
    /// The file's name.
    pub domain: String,
    /// Pieces whose surprise exceeds the threshold.
    pub surprised: Proportion,
    /// Pieces that moved the state to Focus.
    pub focus: Proportion,
    /// Mean salience.
    pub mean: Mean,
}

impl Inside {
    pub(super) fn of(domain: &Domain, assessed: &[AssessedPiece]) -> Self {
        let warm = assessed.get(WARM_UP_SEGMENTS..).unwrap_or_default();
        Self {
            domain: domain.name.clone(),
            surprised: Proportion::of(warm, |one| one.salience.surprise > SURPRISED),
            focus: Proportion::of(warm, |one| one.focus),
            mean: Mean::of(warm),
        }
    }
}

/// The cuts from one domain to another; from a domain to itself they are the control.
#[derive(Clone, Debug, Serialize)]
pub struct Crossing {
    /// What was read before.
    pub from: String,
    /// What followed.
    pub to: String,
    /// Cuts after which the next piece's surprise exceeds the threshold.
    pub surprised: Proportion,
    /// Cuts after which Focus was entered by drive within the pieces that were read.
    pub focus: Proportion,
    /// Mean salience of the first piece behind the cut.
    pub mean: Mean,
}

impl Crossing {
    pub(super) fn of(from: &Domain, to: &Domain, cuts: &[Vec<AssessedPiece>]) -> Self {
        let first: Vec<AssessedPiece> =
            cuts.iter().filter_map(|cut| cut.first().copied()).collect();
        let focus = cuts.iter().filter(|cut| cut.iter().any(|one| one.focus));
        Self {
            from: from.name.clone(),
            to: to.name.clone(),
            surprised: Proportion::of(&first, |one| one.salience.surprise > SURPRISED),
            focus: Proportion::new(focus.count(), cuts.len()),
            mean: Mean::of(&first),
        }
    }

    /// Whether the domain does not change.
    pub fn is_control(&self) -> bool {
        self.from == self.to
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct SalienceEvalReport {
    /// Tokens of a piece, about.
    pub piece_tokens: usize,
    /// Pieces before a cut.
    pub before: usize,
    /// Pieces after a cut.
    pub after: usize,
    /// Whether the source and its context go on across a cut.
    pub same_source: bool,
    /// All pieces inside their domains that surprise.
    pub inside_surprised: Proportion,
    /// All pieces inside their domains that moved the state to Focus.
    pub inside_focus: Proportion,
    /// All cuts between two domains whose next piece surprises.
    pub cut_surprised: Proportion,
    /// All cuts between two domains that moved the state to Focus.
    pub cut_focus: Proportion,
    /// All controls whose next piece surprises.
    pub control_surprised: Proportion,
    /// All controls that moved the state to Focus.
    pub control_focus: Proportion,
    /// Domain by domain.
    pub inside: Vec<Inside>,
    /// Every ordered pair of domains.
    pub cuts: Vec<Crossing>,
}

impl SalienceEvalReport {
    pub(super) fn new(settings: &SalienceEvalSettings) -> Self {
        Self {
            piece_tokens: settings.piece_tokens,
            before: settings.before,
            after: settings.after,
            same_source: settings.same_source,
            inside_surprised: Proportion::default(),
            inside_focus: Proportion::default(),
            cut_surprised: Proportion::default(),
            cut_focus: Proportion::default(),
            control_surprised: Proportion::default(),
            control_focus: Proportion::default(),
            inside: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// Adds everything up.
    pub(super) fn finish(&mut self) {
        let (controls, cuts): (Vec<_>, Vec<_>) = self.cuts.iter().partition(|cut| cut.is_control());
        let surprised = |all: &[&Crossing]| Proportion::sum(all.iter().map(|cut| &cut.surprised));
        let focus = |all: &[&Crossing]| Proportion::sum(all.iter().map(|cut| &cut.focus));
        (self.cut_surprised, self.cut_focus) = (surprised(&cuts), focus(&cuts));
        (self.control_surprised, self.control_focus) = (surprised(&controls), focus(&controls));
        self.inside_surprised = Proportion::sum(self.inside.iter().map(|inside| &inside.surprised));
        self.inside_focus = Proportion::sum(self.inside.iter().map(|inside| &inside.focus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_the_known_one() {
        // Newcombe 1998: 81 of 263, and 0 of 20.
        let share = Proportion::new(81, 263);
        assert!((share.low - 0.2553).abs() < 1e-4 && (share.high - 0.3662).abs() < 1e-4);
        let none = Proportion::new(0, 20);
        assert!(none.low == 0.0 && (none.high - 0.1611).abs() < 1e-4);
        assert_eq!(Proportion::new(0, 0).high, 1.0);
    }
}
