//! A session that is measured: prompts at random, asked one after another.

use std::sync::Arc;
use std::time::Instant;

use super::args::BenchArgs;
use super::arms::{Arm, Io, Mind};
use super::figures::{DiskUse, Figures};
use super::speech::{self, SpeechFigures, SpokenRound};
use crate::cli::CliError;
use crate::core::request::{Request, RequestContent, Stop, VoiceChoice};
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
    /// Of answers that were spoken, one a round where that was asked for.
    pub speech: Vec<SpokenRound>,
    pub read_bytes: ReadBytes,
    /// Tokens of the answers and codes of their speech, in order.
    pub said: Vec<u32>,
}

/// A session, and what it is asked.
pub(super) struct Measured<'a> {
    args: &'a BenchArgs,
    session: Session,
    source: Arc<dyn WeightSource>,
    arm: Arm,
    said: Vec<u32>,
}

impl<'a> Measured<'a> {
    pub fn new(
        args: &'a BenchArgs,
        session: Session,
        source: Arc<dyn WeightSource>,
        arm: Arm,
    ) -> Self {
        Self {
            args,
            session,
            source,
            arm,
            said: Vec::new(),
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
        let (cold, _) = self.ask(self.prompt(1, lengths[0]), None).await?;
        step();
        let mut warm = vec![Vec::new(); lengths.len()];
        let mut speech = Vec::new();
        for round in rounds {
            for at in 0..lengths.len() {
                let turned = (at + round) % lengths.len();
                let number = 2 + round * lengths.len() + at;
                let prompt = self.prompt(number as u64, lengths[turned]);
                warm[turned].push(self.ask(prompt, None).await?.0);
                step();
            }
            if self.args.speech {
                let config = self.source.config();
                let prompt = speech::turn(config, &self.prompt(1, lengths[0]));
                let voice = speech::voice(config.talker.as_ref());
                speech.extend(self.ask(prompt, Some(voice)).await?.1);
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
            speech,
            read_bytes,
            said: self.said,
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
            // The mind is told nothing of what is read.
            unmeasured: self.arm.mind == Mind::Off,
            ..Request::new("bench", content)
        }
    }

    async fn ask(
        &mut self,
        tokens: Vec<u32>,
        voice: Option<VoiceChoice>,
    ) -> Result<(Figures<f64>, Option<SpokenRound>), CliError> {
        let request = Request {
            voice,
            ..self.request(tokens)
        };
        let mut hear = |event: Event| {
            event.emit();
            true
        };
        let before = DiskMark::of(&*self.source);
        let (answer, spoken) = self.session.answer(request, None, &mut hear).await?;
        let whole_seconds = before.at.elapsed().as_secs_f64();
        // Pages that arithmetic touches are fetched by the system, which says nothing of when.
        let measured = self.arm.io == Io::Direct;
        let disk = measured.then(|| DiskMark::of(&*self.source).since(before));
        self.said.extend(&answer.tokens);
        let spoken = spoken.map(|spoken| {
            self.said.extend(&spoken.spoken.codes);
            SpokenRound {
                figures: SpeechFigures::of(&spoken.spoken, whole_seconds),
                frames: spoken.spoken.frames,
            }
        });
        Ok((Figures::of(&answer.cost, disk), spoken))
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
