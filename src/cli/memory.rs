//! Options of what memory is planned for, of the commands that plan without running.

use clap::Args;
use sage_actors::protocol::Modality;

use super::CliError;
use super::opening::{SettingsArgs, mind_of};
use crate::input::{KvPrecision, Limit};
use crate::session::opening::EngineOptions;
use crate::store::WeightSource;

/// What memory is planned for.
#[derive(Args, Debug, Default)]
pub struct MemoryArgs {
    /// What would this memory limit give? 512MiB, 6GiB, 25% (of everything resident), 64slots (experts) [default: as the
    /// settings say]
    #[arg(long, value_name = "SIZE")]
    pub limit: Option<Limit>,
    /// Tokens of context to plan memory for [default: 2048, or all that the model has]
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// How keys and values are kept: f32 (as computed), bf16 (half the memory), q8 (a quarter) [default: as the
    /// settings say]
    #[arg(long, value_name = "PRECISION")]
    pub kv: Option<KvPrecision>,
    /// Plan for a run with --exact, or `sage bench --mind off`: the reference's experts for every token, and no dreams
    #[arg(long)]
    pub exact: bool,
    /// Plan for a model that hears
    #[arg(long)]
    pub hear: bool,
    /// Plan for a model that sees
    #[arg(long)]
    pub see: bool,
    /// Plan for a model that speaks
    #[arg(long)]
    pub speak: bool,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What is asked of memory.
#[derive(Clone, Debug)]
pub struct MemoryQuestion {
    /// How the model would be opened; no limit yet.
    pub options: EngineOptions,
    /// The limit that is asked about; none: one would be chosen.
    pub limit: Option<Limit>,
}

impl MemoryArgs {
    /// What the options ask, and the settings where they do not; `implies_exact` is an option that has the run exact without
    /// --exact.
    ///
    /// # Errors
    /// When the settings or the context are no request.
    pub fn question(
        &self,
        source: &dyn WeightSource,
        implies_exact: Option<&str>,
    ) -> Result<MemoryQuestion, CliError> {
        let settings = self.settings.load()?;
        let longest = source.config().thinker.text.max_position_embeddings;
        let options = EngineOptions::default();
        let declared = self.context.or(settings.session.context_tokens);
        let context_tokens = declared.unwrap_or_else(|| options.context_tokens.min(longest));
        if !(1..=longest).contains(&context_tokens) {
            let name = match self.context {
                Some(_) => "--context",
                None => "session.context_tokens",
            };
            return Err(CliError::request(format!(
                "{name} is {context_tokens}; expected 1 to {longest} tokens for this model"
            )));
        }
        let senses = [(self.hear, Modality::Audio), (self.see, Modality::Vision)];
        let options = EngineOptions {
            context_tokens,
            chunk_tokens: settings.session.chunk_tokens,
            kv: self.kv.or(settings.session.kv_precision),
            mind: mind_of(&settings, self.exact.then_some("--exact").or(implies_exact))?,
            senses: senses
                .into_iter()
                .filter_map(|(asked, sense)| asked.then_some(sense))
                .collect(),
            speaks: self.speak,
            ..options
        };
        Ok(MemoryQuestion {
            options,
            limit: self.limit.or(settings.session.limit),
        })
    }
}
