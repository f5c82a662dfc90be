//! Whether salience tells a change of domain from the run of a text: the instrument behind `sage salience`.
//!
//! Texts are read by the core loop itself, piece by piece, as a run's observations: the same contexts, the same states,
//! the same assessor. Every reading begins with a fresh mind. *Inside*, one domain is read from its first piece to its
//! last. At a *cut*, some pieces of one domain are followed by some of another, from another source; where both are the
//! same domain it is the control: the source and its context change, the domain does not. Where the source stays the
//! same, its context goes on across the cut. Nothing declares an urgency.

mod pieces;
mod reader;
mod report;
mod settings;

use std::sync::Arc;

use super::EvalError;
use crate::store::WeightSource;

use pieces::Domain;
use reader::{AssessedPiece, Reader};
pub use report::{Crossing, Inside, Mean, Proportion, SURPRISED, SalienceEvalReport};
pub use settings::SalienceEvalSettings;

/// Reads everything; `progress` hears of every reading that is done, of [`readings`].
///
/// # Errors
/// A file that cannot be read or is too short, and whatever stops the engine.
pub async fn measure(
    source: &Arc<dyn WeightSource>,
    settings: &SalienceEvalSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<SalienceEvalReport, EvalError> {
    let domains = pieces::domains(&**source, settings)?;
    let mut report = SalienceEvalReport::new(settings);
    let mut done = 0;
    let mut tell = || {
        done += 1;
        progress(done);
    };
    for domain in &domains {
        let mut reader = Reader::open(source, settings).await?;
        for piece in &domain.pieces {
            reader.read(&piece.source, &piece.text).await?;
        }
        let assessed = reader.finish().await?;
        report.inside.push(Inside::of(domain, &assessed));
        tell();
    }
    for from in &domains {
        for to in &domains {
            let mut cuts = Vec::new();
            for cut in 0..settings.cuts {
                cuts.push(cross(source, settings, from, to, cut).await?);
                tell();
            }
            report.cuts.push(Crossing::of(from, to, &cuts));
        }
    }
    report.finish();
    Ok(report)
}

/// How many readings [`measure`] makes of so many files.
pub fn readings(settings: &SalienceEvalSettings) -> usize {
    let domains = settings.texts.len();
    domains + domains * domains * settings.cuts
}

/// What was made of the pieces behind a cut.
async fn cross(
    source: &Arc<dyn WeightSource>,
    settings: &SalienceEvalSettings,
    from: &Domain,
    to: &Domain,
    cut: usize,
) -> Result<Vec<AssessedPiece>, EvalError> {
    let mut reader = Reader::open(source, settings).await?;
    let mut last = "";
    for piece in from.window(cut, settings.cuts, settings.before) {
        last = &piece.source;
        reader.read(last, &piece.text).await?;
    }
    // Half-way round: in the control, too, what follows is another place.
    for piece in to.window_beyond(cut, settings.cuts, settings.after) {
        let source = if settings.same_source {
            last
        } else {
            "beyond the cut"
        };
        reader.read(source, &piece.text).await?;
    }
    let mut assessed = reader.finish().await?;
    Ok(assessed.split_off(assessed.len() - settings.after))
}
