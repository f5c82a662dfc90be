//! The first four parts of a step: sense, salience, state, budget.

use std::sync::Arc;

use sage_actors::protocol::{
    Assess, Directives, Modality, Module, ModuleDirective, Observe, Residency, SalienceReport,
    Segment, SensorReading, Stimulus, Tick, TokenMeasure,
};

use tracing::Instrument;

use super::engine::Engine;
use super::error::EngineError;
use crate::events::{SalienceEvent, SensesEvent};
use crate::spans;

/// What reached the loop since the step before.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Tokens of outside input.
    pub tokens_in: u32,
    /// Observations from outside: readings of the own body are none.
    pub events_in: u32,
    /// Greatest declared urgency, in [0, 1].
    pub urgency: f32,
    /// An alarm arrived or is not yet answered.
    pub alarm: bool,
    /// A finished segment.
    pub segment: Option<Segment>,
    /// The last decoded token, if the step before decoded one.
    pub last_token: Option<TokenMeasure>,
    /// Readings since the step before, in their order of arrival.
    pub sensors: Vec<SensorReading>,
    /// Outside feedback on the last turn, in [-1, 1].
    pub feedback: Option<f32>,
    /// Sounds and pictures that arrived.
    pub stimuli: Vec<Stimulus>,
    /// Modalities of what waits, is being read or answered.
    pub perceiving: Vec<Modality>,
    /// Observations that wait for an answer.
    pub open_requests: u32,
    /// Something is being read, or waits for it.
    pub reading: bool,
    /// The step before read a part of an observation, not its end.
    pub unfinished: bool,
    /// Drive of the turn that is being spoken; none: nothing is.
    pub spoken_drive: Option<f32>,
}

/// What the mind made of it: how the next step is to be run.
#[derive(Clone, Debug)]
pub struct Orientation {
    /// The tick at which the step begins.
    pub tick: Tick,
    /// How salient what arrived is, and what it was made of.
    pub report: SalienceReport,
    /// State, energy, budgets.
    pub directives: Arc<Directives>,
    /// The thinker's own.
    pub directive: ModuleDirective,
    /// Of the first sparse layer.
    pub residency: Residency,
}

impl Engine {
    /// Asks the mind how to run the next step.
    ///
    /// # Errors
    /// When an actor failed.
    pub async fn orient(&mut self, arrivals: Arrivals) -> Result<Orientation, EngineError> {
        let span = spans::orient(self.tick());
        self.ask_mind(arrivals).instrument(span).await
    }

    async fn ask_mind(&mut self, arrivals: Arrivals) -> Result<Orientation, EngineError> {
        let ticks = self.clock.begin_step();
        self.clock.note_levels(&arrivals.sensors);
        let outside_input = arrivals.events_in > 0;
        let observe = Observe {
            tick: self.tick(),
            ticks,
            tokens_in: arrivals.tokens_in,
            events_in: arrivals.events_in,
            urgency: arrivals.urgency,
            alarm: arrivals.alarm,
            segment: arrivals.segment,
            last_token: arrivals.last_token,
            sensors: arrivals.sensors,
            feedback: arrivals.feedback,
            stimuli: arrivals.stimuli,
        };
        let report = self.clock.ask(1, self.mind.observe(observe)).await?;
        let count = self.mind.unconsolidated_episodes();
        let unconsolidated_episodes = self.clock.ask(1, count).await?;
        let assess = Assess {
            tick: self.tick(),
            ticks,
            report,
            open_requests: arrivals.open_requests,
            quiet: !outside_input && !arrivals.reading && arrivals.open_requests == 0,
            outside_input,
            unfinished: arrivals.unfinished,
            spent: self.clock.take_spent(),
            pool_bytes: self.plan.pool_bytes,
            // Between steps no lease is held, so that every cached expert could be given back: what could not is what a
            // limit below the floor lacks.
            unreclaimable_bytes: self.plan.shortfall_bytes(),
            levels: self.clock.levels(),
            unconsolidated_episodes,
            spoken_drive: arrivals.spoken_drive,
            perceiving: arrivals.perceiving,
        };
        let directives = self.clock.ask(1, self.mind.assess(assess)).await?;
        let snapshot = self.clock.ask(1, self.mind.snapshot()).await?;
        // The cache, then every router of a module awake.
        let awake = directives
            .modules
            .iter()
            .map(|d| self.layers_of(d.module).len());
        let asks = 1 + awake.sum::<usize>() as u64;
        let apply = self.mind.apply(&directives, &snapshot);
        let residency = self.clock.ask(asks, apply).await?;
        self.body.towers.obey(&directives.towers);
        let directive = directives
            .modules
            .iter()
            .find(|directive| directive.module == Module::Thinker)
            .copied();
        let directive = directive.ok_or(EngineError::NoDirective)?;
        Ok(Orientation {
            tick: self.tick(),
            report,
            directives: Arc::new(directives),
            directive,
            residency,
        })
    }
}

impl From<&Orientation> for SalienceEvent {
    /// Of a tick.
    fn from(orientation: &Orientation) -> Self {
        let salience = orientation.report.salience;
        Self {
            surprise: salience.surprise,
            novelty: salience.novelty,
            arousal: salience.arousal,
            reward: salience.reward,
            conflict: salience.conflict,
            drive: orientation.directives.drive,
            atp: orientation.directives.energy.atp,
            senses: orientation.report.senses.map(|senses| SensesEvent {
                text: senses.text.salience,
                audio: senses.audio.map(|audio| audio.salience),
                vision: senses.vision.map(|vision| vision.salience),
            }),
        }
    }
}
