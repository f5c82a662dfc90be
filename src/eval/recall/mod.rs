//! How much of what was told once is remembered: the instrument behind `sage recall`.
//!
//! An item is a text, longer than the context, and questions about facts in it that come when all of it was read. Every arm
//! is another rule of what stays, with the same model, the same context and the same bytes of memory; routing is exact and
//! held so, whatever the settings say, so that nothing differs but what is remembered. An item begins with an empty
//! conversation. Right is the answer that equals the expected one, white space at its ends aside.

mod arm;
mod items;
mod report;
mod settings;

use std::sync::Arc;

use super::EvalError;
use crate::core::EngineError;
use crate::core::core_loop::Observation;
use crate::events::{Event, EventKind};
use crate::session::exact::apply_exact_mode;
use crate::session::opening::EngineOptions;
use crate::session::{Request, Session, SessionPlan};
use crate::store::WeightSource;
use crate::text::Text;

pub use arm::RecallArm;
use items::{Item, Question};
use report::ArmResult;
pub use report::RecallReport;
pub use settings::RecallSettings;

/// Runs every arm; `progress` hears of every item that is done, of [`readings`].
///
/// # Errors
/// A file that cannot be read, and whatever stops the engine.
pub async fn measure(
    source: &Arc<dyn WeightSource>,
    settings: &RecallSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<RecallReport, EvalError> {
    let items = items::load(settings)?;
    let (mut results, mut done) = (Vec::new(), 0);
    for arm in &settings.arms {
        let mut result = ArmResult::default();
        let mut reader = Reader::open(source, settings, *arm, &items).await?;
        for item in &items {
            reader.run(item, &mut result).await?;
            done += 1;
            progress(done);
        }
        reader.session.close().await?;
        results.push((*arm, result));
    }
    Ok(RecallReport::new(settings, &items, &results))
}

/// How many readings [`measure`] makes.
///
/// # Errors
/// A file that cannot be read.
pub fn readings(settings: &RecallSettings) -> Result<usize, EvalError> {
    Ok(items::load(settings)?.len() * settings.arms.len())
}

/// One arm's session.
struct Reader {
    session: Session,
    answer_tokens: usize,
}

/// Room beside an item's text in an unlimited context: questions, answers and what the template writes.
const SPARE_TOKENS: usize = 1024;

impl Reader {
    async fn open(
        source: &Arc<dyn WeightSource>,
        settings: &RecallSettings,
        arm: RecallArm,
        items: &[Item],
    ) -> Result<Self, EvalError> {
        let text = Text::load(&**source)?;
        let mut mind = settings.mind.clone();
        arm.apply(&mut mind.memory);
        apply_exact_mode(&mut mind);
        let context_tokens = match arm {
            RecallArm::Unlimited => {
                let counts = items.iter().map(|item| item.tokens(&text));
                let longest = counts.collect::<Result<Vec<usize>, _>>()?;
                longest.into_iter().max().unwrap_or(0) + SPARE_TOKENS
            }
            _ => settings.context_tokens,
        };
        let options = EngineOptions {
            limit: settings.limit,
            context_tokens,
            mind,
            ..EngineOptions::default()
        };
        let plan = SessionPlan {
            text: Some(text),
            ..SessionPlan::of_engine(options)
        };
        let session = Session::open(Arc::clone(source), plan, |_, _| ()).await?;
        let answer_tokens = settings.answer_tokens;
        Ok(Self {
            session,
            answer_tokens,
        })
    }

    /// Tells an item and asks its questions.
    async fn run(&mut self, item: &Item, result: &mut ArmResult) -> Result<(), EngineError> {
        let source = "teller".to_owned();
        self.session.submit(Observation::Forget { source });
        let ticks_before = self.session.engine().tick();
        let bytes_before = self.session.engine().read_bytes().demand;
        for text in &item.told {
            self.session.submit(Observation::told("teller", text));
            while !self.session.is_idle() {
                let mut hear = |event: Event| result.hear(&event);
                self.session.tick(&mut hear).await?;
                if let Some(refusal) = self.session.take_refused().into_iter().next() {
                    return Err(refusal.error);
                }
            }
        }
        let mut right = Vec::new();
        for Question { question, answer } in &item.questions {
            let request = Request {
                context: crate::session::ContextKind::Conversation,
                max_tokens: Some(self.answer_tokens),
                ..Request::question("asker", question)
            };
            let mut hear = |event: Event| {
                result.hear(&event);
                true
            };
            let (given, _) = self.session.answer(request, None, &mut hear).await?;
            right.push(given.text.trim() == answer.trim());
        }
        let bytes_after = self.session.engine().read_bytes().demand;
        result.bytes_read += bytes_after - bytes_before;
        result.ticks += self.session.engine().tick() - ticks_before;
        result.right.push(right);
        Ok(())
    }
}

impl ArmResult {
    fn hear(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Condensed { .. } => self.condensed += 1,
            EventKind::Recalled { segments, .. } => self.recalled += segments,
            _ => {}
        }
    }
}
