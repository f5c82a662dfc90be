//! A session that is measured: prompts at random, asked one after another.

use std::sync::Arc;
use std::time::Instant;

use super::BenchArgs;
use super::figures::{DiskUse, Figures};
use crate::cli::CliError;
use crate::core::core_loop::Answer;
use crate::core::request::{Request, RequestContent, Stop};
use crate::core::sampling::uniform;
use crate::events::{Event, RunMode};
use crate::reads::ReadBytes;
use crate::session::Session;
use crate::store::WeightSource;

/// Ids at the end of a vocabulary that no prompt has: special tokens stand there.
const SPECIAL_IDS: usize = 64;

/// What a session came to.
pub(super) struct SessionFigures {
    pub mode: RunMode,
    pub cold: Figures<f64>,
    /// Of every length, in the order of the command line, one a round.
    pub warm: Vec<Vec<Figures<f64>>>,
    pub read_bytes: ReadBytes,
}

/// A session, and what it is asked.
pub(super) struct Measured<'a> {
    args: &'a BenchArgs,
    session: Session,
    source: Arc<dyn WeightSource>,
    /// Nothing is told to the mind of what is read.
    unmeasured: bool,
}

impl<'a> Measured<'a> {
    pub fn new(
        args: &'a BenchArgs,
        session: Session,
        source: Arc<dyn WeightSource>,
        unmeasured: bool,
    ) -> Self {
        Self {
            args,
            session,
            source,
            unmeasured,
        }
    }

    /// One prompt that finds no expert in memory, then each length once in each of `rounds`, in an order that turns. `step` hears of
    /// every answer.
    ///
    /// # Errors
    /// What a request ends with that fails.
    pub async fn run(
        mut self,
        rounds: std::ops::Range<usize>,
        step: impl Fn(),
    ) -> Result<SessionFigures, CliError> {
        let lengths = &self.args.prompt_tokens;
        let cold = self.ask(self.prompt(1, lengths[0])).await?;
        step();
        let mut warm = vec![Vec::new(); lengths.len()];
        for round in rounds {
            for at in 0..lengths.len() {
                let turned = (at + round) % lengths.len();
                let number = 2 + round * lengths.len() + at;
                let prompt = self.prompt(number as u64, lengths[turned]);
                warm[turned].push(self.ask(prompt).await?);
                step();
            }
        }
        let read_bytes = self.session.engine().read_bytes();
        let mode = self.session.mode().clone();
        self.session.close().await?;
        Ok(SessionFigures {
            mode,
            cold,
            warm,
            read_bytes,
        })
    }

    /// Token ids at random: prompt `number` is the same in every run.
    fn prompt(&self, number: u64, tokens: usize) -> Vec<u32> {
        let config = self.source.config();
        let ids = config.thinker.text.vocab_size.saturating_sub(SPECIAL_IDS);
        let special = config.im_start_token_id as usize;
        let ids = ids.min(special).max(1) as f64;
        let id = |at: usize| (uniform(number, at as u64) * ids) as u32;
        (0..tokens).map(id).collect()
    }

    fn request(&self, tokens: Vec<u32>) -> Request {
        let content = RequestContent::Tokens {
            media: Vec::new(),
            tokens,
        };
        Request {
            stop: Stop::Never,
            max_tokens: Some(self.args.answer_tokens),
            unmeasured: self.unmeasured,
            ..Request::new("bench", content)
        }
    }

    async fn ask(&mut self, tokens: Vec<u32>) -> Result<Figures<f64>, CliError> {
        let request = self.request(tokens);
        let mut hear = |event: Event| {
            event.emit();
            true
        };
        let before = DiskMark::of(&*self.source);
        let (Answer { cost, .. }, _) = self.session.answer(request, None, &mut hear).await?;
        let disk = DiskMark::of(&*self.source).since(before);
        Ok(Figures::of(&cost, disk))
    }
}

/// What the disk has done up to a moment.
#[derive(Clone, Copy)]
struct DiskMark {
    at: Instant,
    busy_seconds: f64,
    expert_bytes: u64,
}

impl DiskMark {
    fn of(source: &dyn WeightSource) -> Self {
        let reads = source.reads();
        let bytes = reads.bytes();
        Self {
            busy_seconds: reads.experts_busy().as_secs_f64(),
            at: Instant::now(),
            expert_bytes: bytes.demand + bytes.prefetch + bytes.shadow,
        }
    }

    fn since(self, before: Self) -> DiskUse {
        let busy = self.busy_seconds - before.busy_seconds;
        let whole = (self.at - before.at).as_secs_f64();
        let bytes = (self.expert_bytes - before.expert_bytes) as f64;
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        DiskUse {
            // Both clocks are read one after the other.
            duty: share(busy, whole).min(1.0),
            bytes_per_second: share(bytes, busy),
        }
    }
}
