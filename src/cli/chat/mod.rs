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
use super::opening::{self, LedgerArgs, RunningArgs, RunningSettings};
use super::recording::RecordArgs;
use super::sampling::{SamplingArgs, check_max_tokens};
use super::speaking::{SpeakFolderArgs, check_spoken_tokens};
use super::template::TemplateOptions;
use super::{CliError, CommandOutcome, Printer};
use crate::core::EngineError;
use crate::input::without_mark;
use crate::media::medium::MOST_FILE_BYTES;
use crate::sensors::Machine;
use crate::session::opening::EngineOptions;
use crate::session::{SessionPlan, context_tokens};
use crate::settings::keys;
use crate::text::Message;
use crate::text::template::Thinking;
use crate::trace::SensorMode;
use input::{ChatInput, Interrupts};
use session::Chat;

const EXAMPLES: &str = "Examples:
  sage chat                                         with the model in the repository
  sage chat MODEL --limit 6GiB --system 'Answer in one word.'
  printf 'Tom lives in Rome. Where does Tom live?\\n/why\\n' | sage chat
  printf '/hear word.wav What is said?\\n' | sage chat --hear
  sage chat --json < questions.txt                  every event as one JSON object a line

A line is said; one that begins with / is a command (/help lists them), unless a space stands before it. Ctrl-C breaks an
answer off; twice at the prompt, or Ctrl-D, it ends the conversation. Between two turns time passes by the mind's own
measure, not by the clock: until it is calm and rested, 256 ticks at most. So the same lines give the same answers.";

/// Arguments of `sage chat`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    /// Checkpoint or store [default: the model in the repository]
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: Option<PathBuf>,
    /// A system message before the conversation
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    template: TemplateOptions,
    /// The trained number of experts, chosen as the reference does; memory changes speed, never an answer
    #[arg(long)]
    exact: bool,
    /// Tokens of an answer at most [default: session.answer_tokens, 256]
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Tokens of context to reserve memory for [default: session.context_tokens, 2048, or what the model was made for]; what does not fit is forgotten, oldest first
    #[arg(long)]
    context: Option<usize>,
    /// Be able to hear: memory is planned for the audio tower, and /hear FILE works
    #[arg(long)]
    hear: bool,
    /// Be able to see: memory is planned for the vision tower, and /see FILE works
    #[arg(long)]
    see: bool,
    /// Tokens that the sounds (13 a second) and the pictures (1,024 pixels each) of one observation may take
    /// [default: session.media_tokens, 512]
    #[arg(long, value_name = "N")]
    media_tokens: Option<usize>,
    #[command(flatten)]
    speaking: SpeakFolderArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    learning: LedgerArgs,
    #[command(flatten)]
    recording: RecordArgs,
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
pub fn run(args: &ChatArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.sampling.check()?;
    check_max_tokens(args.max_tokens)?;
    args.learning.check(args.exact)?;
    args.running.set_threads()?;
    let exact = args.exact.then_some("--exact");
    let RunningSettings { settings, mind } = args.running.resolve(exact, |sources| {
        args.sampling.say(sources);
        sources.option(keys::ANSWER_TOKENS, "--max-tokens", args.max_tokens);
        sources.option(keys::CONTEXT_TOKENS, "--context", args.context);
        sources.option(keys::MEDIA_TOKENS, "--media-tokens", args.media_tokens);
    })?;
    let folder = match &args.model {
        Some(folder) => folder.clone(),
        None => home::store_of_own_model(printer)?,
    };
    let source = opening::source(&folder)?;
    let text = args.template.text(&*source)?;
    let prompt = text.prompt(&[Message::new("user", "?")], "");
    let thinking = Thinking::behind(&prompt.map_err(EngineError::from)?.text);
    let speaks = args.speaking.is_asked();
    args.speaking.check_needed(speaks, "say --speak FOLDER")?;
    if speaks {
        check_spoken_tokens(settings.session.answer_tokens)?;
        args.speaking.check(&*source)?;
    }
    let engine = EngineOptions {
        context_tokens: context_tokens(&settings.session, &*source),
        chunk_tokens: settings.session.chunk_tokens,
        kv: settings.session.kv_precision,
        mind,
        degrade: args.running.degrade,
        senses: args.senses(),
        media_tokens: settings.session.media_tokens,
        // One is taken at a time, and perceived before the next line is read.
        waiting_media_bytes: MOST_FILE_BYTES,
        speaks,
        codes: args.speaking.codes()?,
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    let plan = SessionPlan {
        text: Some(text),
        system: args
            .system
            .as_deref()
            .map(|text| without_mark(text).to_owned()),
        learning: args.learning.learning(),
        recording: args.recording.plan("chat", SensorMode::Live),
        ..SessionPlan::new(engine, &settings)
    };
    let voice = speaks.then(|| args.speaking.choice(args.exact));
    let speech = args.speaking.folder()?;
    opening::runtime()?.block_on(async {
        // From here on Ctrl-C means what it says above.
        let interrupts = Interrupts::listen()?;
        let session = opening::session(source, plan, printer).await?;
        session.check_turn("?")?;
        let mut chat = Chat::new(session, printer, interrupts, thinking, (voice, speech));
        let ended = chat.hold(ChatInput::open(printer)?).await;
        chat.close(ended).await.map(|()| CommandOutcome::Done)
    })
}
