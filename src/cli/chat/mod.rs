//! `sage chat`.

mod command;
mod input;
mod reply;
mod session;
mod show;
mod shown;
mod why;

use std::path::PathBuf;

use clap::Args;
use sage_actors::protocol::Modality;

use super::home;
use super::opening::{self, LedgerArgs, RunningArgs};
use super::sampling::{SamplingArgs, check_max_tokens};
use super::template::TemplateOptions;
use super::{CliError, Outcome, Printer};
use crate::core::EngineError;
use crate::core::core_loop::CoreLoop;
use crate::input::without_mark;
use crate::media::medium::MOST_FILE_BYTES;
use crate::sensors::Machine;
use crate::session::opening::EngineOptions;
use crate::session::opening::MEDIA_TOKENS;
use crate::text::Message;
use crate::text::template::Thinking;
use input::{Input, Interrupts};
use session::Session;

const EXAMPLES: &str = "Examples:
  sage chat                                         with the model in the repository
  sage chat MODEL --limit 6GiB --system 'Answer in one word.'
  printf 'Tom lives in Rome. Where does Tom live?\\n/why\\n' | sage chat
  printf '/hear word.wav What is said?\\n' | sage chat --hear
  sage chat --json < questions.txt                  every event as one JSON object a line

A line is said; one that begins with / is a command (/help lists them), unless a space stands before it. Ctrl-C breaks an
answer off; twice at the prompt, or Ctrl-D, it ends the conversation. Between two turns time passes by the mind's own
measure, not by the clock: until it is calm and rested, 256 ticks at most. So the same lines give the same answers.";

/// Tokens of context unless asked for otherwise, as far as the model goes.
const CONTEXT_TOKENS: usize = 2048;

/// Arguments of `sage chat`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    /// Checkpoint or store [default: the model in the repository]
    model: Option<PathBuf>,
    /// A system message before the conversation
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    template: TemplateOptions,
    /// The trained number of experts, chosen as the reference does; memory changes speed, never an answer
    #[arg(long)]
    exact: bool,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Tokens of context to reserve memory for [default: 2048, or what the model was made for]; what does not fit is forgotten, oldest first
    #[arg(long)]
    context: Option<usize>,
    /// Be able to hear: memory is planned for the audio tower, and /hear FILE works
    #[arg(long)]
    hear: bool,
    /// Be able to see: memory is planned for the vision tower, and /see FILE works
    #[arg(long)]
    see: bool,
    /// Tokens that the sounds (13 a second) and the pictures (1,024 pixels each) of one observation may take
    #[arg(long, value_name = "N", default_value_t = MEDIA_TOKENS)]
    media_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    learning: LedgerArgs,
    /// Report every event as one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

impl ChatArgs {
    fn senses(&self) -> Vec<Modality> {
        let mut senses = Vec::new();
        if self.hear {
            senses.push(Modality::Audio);
        }
        if self.see {
            senses.push(Modality::Vision);
        }
        senses
    }
}

/// Runs the command.
pub fn run(args: &ChatArgs, printer: &Printer) -> Result<Outcome, CliError> {
    let sampling = args.sampling.checked()?;
    check_max_tokens(args.max_tokens)?;
    args.learning.check(args.exact)?;
    args.running.set_threads()?;
    let folder = match &args.model {
        Some(folder) => folder.clone(),
        None => home::store_of_own_model(printer)?,
    };
    let source = opening::source(&folder)?;
    let text = args.template.text(&*source)?;
    let prompt = text.prompt(&[Message::new("user", "?")], "");
    let thinking = Thinking::behind(&prompt.map_err(EngineError::from)?.text);
    let longest = source.config().thinker.text.max_position_embeddings;
    let mind = args.running.mind(args.exact)?;
    let options = EngineOptions {
        context_tokens: args.context.unwrap_or(CONTEXT_TOKENS.min(longest)),
        chunk_tokens: 128,
        mind: mind.clone(),
        degrade: args.running.degrade,
        senses: args.senses(),
        media_tokens: args.media_tokens,
        // One is taken at a time, and perceived before the next line is read.
        waiting_media_bytes: MOST_FILE_BYTES,
        ..EngineOptions::default()
    }
    .limited(args.running.limit, Machine::of_process());
    opening::runtime()?.block_on(async {
        // From here on Ctrl-C means what it says above.
        let interrupts = Interrupts::listen()?;
        let mut engine = opening::engine(source, options, printer).await?;
        let mut mode = opening::mode(&engine, &mind)?;
        args.learning.begin(&mut engine, &mut mode, printer).await?;
        let mut core = CoreLoop::new(engine, text, sampling, args.max_tokens)?;
        let system = args.system.as_deref().map(without_mark);
        core.converse(system.map(str::to_owned));
        core.turn_tokens("?")?;
        let mut session = Session::new(core, printer, interrupts, thinking);
        let ended = session.hold(Input::open(printer)?, mode).await;
        session.close();
        // Of a run that failed the log keeps what was learned.
        let kept = match &ended {
            Ok(()) => session.keep().await,
            Err(_) => Ok(()),
        };
        session.shutdown().await;
        ended.and(kept).map(|()| Outcome::Done)
    })
}
