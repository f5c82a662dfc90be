//! Reads pieces with the core loop, and hears what the mind makes of each.

use std::sync::Arc;

use sage_actors::protocol::{Cause, State};

use super::SalienceEvalSettings;
use crate::core::EngineError;
use crate::core::core_loop::Observation;
use crate::eval::EvalError;
use crate::eval::worker::CHUNK_TOKENS;
use crate::events::{Event, EventKind, SalienceEvent};
use crate::session::opening::EngineOptions;
use crate::session::{Session, SessionPlan};
use crate::store::WeightSource;
use crate::text::Text;

/// What the mind made of a piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct AssessedPiece {
    /// Of the step that brought the finished piece to the mind.
    pub salience: SalienceEvent,
    /// Whether Focus was entered by drive from this step on until the next piece was assessed.
    pub focus: bool,
}

/// A fresh mind that reads.
pub(super) struct Reader {
    session: Session,
    /// Salience of every tick, and whether it entered Focus by drive.
    ticks: Vec<(SalienceEvent, bool)>,
    /// The first tick of every piece.
    first: Vec<usize>,
}

impl Reader {
    pub async fn open(
        source: &Arc<dyn WeightSource>,
        settings: &SalienceEvalSettings,
    ) -> Result<Self, EvalError> {
        let options = EngineOptions {
            limit: settings.limit,
            context_tokens: settings.context_tokens,
            chunk_tokens: Some(CHUNK_TOKENS),
            mind: settings.mind.clone(),
            ..EngineOptions::default()
        };
        let text = Text::load(&**source)?.allowing_control_tokens(settings.control_tokens);
        let plan = SessionPlan {
            text: Some(text),
            ..SessionPlan::of_engine(options)
        };
        Ok(Self {
            session: Session::open(Arc::clone(source), plan, |_, _| ()).await?,
            ticks: Vec::new(),
            first: Vec::new(),
        })
    }

    /// Reads one piece to its end.
    pub async fn read(&mut self, source: &str, text: &str) -> Result<(), EngineError> {
        self.session.submit(Observation::text(source, text));
        self.first.push(self.ticks.len());
        while !self.session.is_idle() {
            self.tick().await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), EngineError> {
        let ticks = &mut self.ticks;
        let mut hear = |event: Event| match event.kind {
            EventKind::Salience(salience) => ticks.push((salience, false)),
            EventKind::State { to, cause, .. } => {
                if let Some(tick) = ticks.last_mut() {
                    tick.1 = to == State::Focus && cause == Cause::Drive;
                }
            }
            _ => {}
        };
        self.session.tick(&mut hear).await?;
        match self.session.take_refused().into_iter().next() {
            Some(refusal) => Err(refusal.error),
            None => Ok(()),
        }
    }

    /// What was made of every piece. A piece is assessed with the first step after it was read.
    pub async fn finish(mut self) -> Result<Vec<AssessedPiece>, EngineError> {
        self.first.push(self.ticks.len());
        self.tick().await?;
        self.session.close().await?;
        let first = &self.first[1..];
        let end = |index: usize| first.get(index + 1).copied().unwrap_or(self.ticks.len());
        let assessed = first.iter().enumerate().map(|(index, at)| AssessedPiece {
            salience: self.ticks[*at].0,
            focus: self.ticks[*at..end(index)].iter().any(|tick| tick.1),
        });
        Ok(assessed.collect())
    }
}
