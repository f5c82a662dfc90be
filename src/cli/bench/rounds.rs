//! Rounds: sessions of every arm one after another, in turns.

use std::sync::Arc;

use super::args::BenchArgs;
use super::arms::{Arm, Io, turn};
use super::cold::forget_cached;
use super::figures::Figures;
use super::measure::{Measured, SessionFigures};
use super::routes::ForcedRouting;
use super::speech::SpokenRound;
use crate::cli::{CliError, Printer, opening};
use crate::core::limit::LimitPolicy;
use crate::core::memory::{page_faults, resident_set};
use crate::events::RunMode;
use crate::input::Limit;
use crate::reads::{ReadBytes, kernel_read_bytes};
use crate::session::opening::EngineOptions;
use crate::session::{Session, SessionPlan};
use crate::settings::Settings;
use crate::store::{WeightSource, open_model};

/// An arm, and how its sessions are opened.
pub(super) struct PlannedArm {
    pub arm: Arm,
    pub engine: EngineOptions,
    pub settings: Settings,
}

/// What the sessions of an arm came to.
#[derive(Default)]
pub(super) struct ArmFigures {
    /// Of the first session.
    pub mode: Option<RunMode>,
    /// One a session.
    pub cold: Vec<Figures<f64>>,
    /// Of every length, one a round.
    pub warm: Vec<Vec<Figures<f64>>>,
    pub speech: Vec<SpokenRound>,
    pub read_bytes: ReadBytes,
    pub used: ProcessUse,
    pub peak_rss_bytes: u64,
    /// Of the tokens of every answer and the codes of every speech, in order.
    pub answers: blake3::Hasher,
}

/// What the system says that this process has used so far.
#[derive(Clone, Copy, Default)]
pub(super) struct ProcessUse {
    pub minor_faults: u64,
    pub major_faults: u64,
    /// None where the system does not say.
    pub kernel_read_bytes: Option<u64>,
}

impl ProcessUse {
    fn now() -> Self {
        let (minor_faults, major_faults) = page_faults();
        Self {
            minor_faults,
            major_faults,
            kernel_read_bytes: kernel_read_bytes(),
        }
    }

    /// Adds what was used between two moments.
    fn add(&mut self, before: Self, after: Self) {
        self.minor_faults += after.minor_faults - before.minor_faults;
        self.major_faults += after.major_faults - before.major_faults;
        self.kernel_read_bytes = after.kernel_read_bytes.map(|bytes| {
            bytes - before.kernel_read_bytes.unwrap_or(0) + self.kernel_read_bytes.unwrap_or(0)
        });
    }
}

impl ArmFigures {
    fn add(&mut self, session: SessionFigures) {
        self.mode.get_or_insert(session.mode);
        self.cold.push(session.cold);
        self.warm.resize_with(session.warm.len(), Vec::new);
        for (all, rounds) in self.warm.iter_mut().zip(session.warm) {
            all.extend(rounds);
        }
        self.speech.extend(session.speech);
        self.read_bytes = self.read_bytes + session.read_bytes;
        for id in session.said {
            self.answers.update(&id.to_le_bytes());
        }
    }
}

/// What the first session found out, and all others are given: sessions of one process must not differ by what the ones before
/// left of its memory.
#[derive(Clone, Copy)]
struct Settled {
    limit: Limit,
    base_bytes: u64,
}

/// Measures arms.
pub(super) struct Rounds<'a> {
    args: &'a BenchArgs,
    arms: Vec<PlannedArm>,
    routing: Option<ForcedRouting>,
    printer: &'a Printer,
    /// For the first session.
    source: Option<Arc<dyn WeightSource>>,
    settled: Option<Settled>,
}

impl<'a> Rounds<'a> {
    pub fn new(
        args: &'a BenchArgs,
        arms: Vec<PlannedArm>,
        routing: Option<ForcedRouting>,
        source: Arc<dyn WeightSource>,
        printer: &'a Printer,
    ) -> Self {
        Self {
            args,
            arms,
            routing,
            printer,
            source: Some(source),
            settled: None,
        }
    }

    /// One arm has one session, in which every round is measured. Several have a session each in every round, for memory has room
    /// for one: what is cold is measured in every round then.
    ///
    /// # Errors
    /// When a session cannot be opened, or a request fails.
    pub async fn run(mut self) -> Result<Vec<ArmFigures>, CliError> {
        let rounds = self.args.rounds;
        let several = self.arms.len() > 1;
        let sessions = if several { rounds * self.arms.len() } else { 1 };
        let warm = self.args.prompt_tokens.len() + usize::from(self.args.speech);
        let steps = sessions + warm * rounds * self.arms.len();
        let bar = self.printer.steps("measuring", steps as u64);
        let mut figures: Vec<ArmFigures> = Vec::new();
        figures.resize_with(self.arms.len(), ArmFigures::default);
        let mut before = ProcessUse::default();
        for first in (0..rounds).step_by(if several { 1 } else { rounds }) {
            let measured = if several { first..first + 1 } else { 0..rounds };
            for at in turn(self.arms.len(), first) {
                if several {
                    forget_peak();
                }
                let session = self.open(at, figures[at].mode.is_none()).await?;
                let done = session.run(measured.clone(), || bar.inc(1)).await?;
                let after = ProcessUse::now();
                let of = &mut figures[at];
                of.add(done);
                of.used.add(before, after);
                of.peak_rss_bytes = of.peak_rss_bytes.max(resident_set().1);
                before = after;
            }
        }
        bar.finish_and_clear();
        Ok(figures)
    }

    /// Opens a session of an arm; the first one says how it runs.
    async fn open(&mut self, at: usize, is_first: bool) -> Result<Measured<'a>, CliError> {
        let source = match self.source.take() {
            Some(source) => source,
            // What one session has checked of a store, another is not spared.
            None => Arc::from(open_model(&self.args.model)?),
        };
        if self.arms.iter().any(|planned| planned.arm.io == Io::Mmap) {
            // No arm finds experts that another left in the page cache, or has to live beside them.
            forget_cached(source.folder());
        }
        let planned = &self.arms[at];
        let mut engine = planned.engine.clone();
        if let Some(Settled { limit, base_bytes }) = self.settled {
            engine.limit = limit;
            engine.limit_policy = LimitPolicy::AsGiven;
            engine.base_bytes = Some(base_bytes);
        }
        let plan = SessionPlan::new(engine, &planned.settings);
        let mut session = if is_first {
            let session = opening::session(Arc::clone(&source), plan, self.printer).await?;
            let text = &session.mode().text;
            self.printer.note(format_args!("mode: {text}"));
            session
        } else {
            Session::open(Arc::clone(&source), plan, |_, _| ()).await?
        };
        if let Some(routing) = &self.routing {
            routing.force(session.engine_mut());
        }
        let engine = session.engine();
        self.settled.get_or_insert(Settled {
            limit: engine.limit(),
            base_bytes: engine.plan.floor.base_bytes,
        });
        Ok(Measured::new(self.args, session, source, planned.arm))
    }
}

/// From now on the peak of this process is what it takes from now on; where the system does not do that, the peak stays that of
/// all arms before.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
