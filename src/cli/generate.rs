//! `sage generate`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sage_actors::protocol::State;
use serde::Serialize;

use super::media::MediaArgs;
use super::opening::{self, LedgerArgs, RunningArgs, RunningSettings};
use super::sampling::{SamplingArgs, check_max_tokens};
use super::speaking::{SpeakArgs, SpeechFile, SpeechReport, check_spoken_tokens};
use super::template::TemplateOptions;
use super::text::token_ids;
use super::watch::WorkWatch;
use super::{CliError, CommandOutcome, Printer, human_bytes};
use crate::core::EngineError;
use crate::core::core_loop::{Answer, RequestCost, SpokenAnswer};
use crate::core::memory::resident_set;
use crate::core::perception::{DecodedMedia, sense, senses_of};
use crate::core::prompting::Prompting;
use crate::core::request::{Request, RequestContent, Stop};
use crate::core::speech::SpeechError;
use crate::events::{Ended, Event, EventKind, RunMode};
use crate::input::without_mark;
use crate::media::medium::MediumKind;
use crate::reads::{ReadBytes, kernel_read_bytes};
use crate::sensors::Machine;
use crate::session::opening::EngineOptions;
use crate::session::{Conversation, SessionPlan};
use crate::settings::keys;
use crate::store::WeightSource;
use crate::text::template::{self, Thinking};
use crate::text::{Message, Text};

const EXAMPLES: &str = "Examples:
  sage generate MODEL --prompt 'What is 21 + 3?'
  sage generate MODEL --prompt 'Tell me a story.' --temperature 0.8 --seed 7 --limit 6GiB
  sage generate MODEL --prompt 'What is 21 + 3?' --template-arg enable_thinking=false
  sage generate MODEL --prompt 'What is 21 + 3?' --exact      the reference's experts, whatever the limit
  sage generate MODEL --audio word.wav --prompt 'What is said?'
  sage generate MODEL --image photo.jpg --prompt 'What is this?' --limit 6GiB
  sage generate MODEL --messages conversation.json --max-tokens 40
  sage generate MODEL --prompt 'Good morning.' --speak answer.wav --speaker chelsie
  sage generate MODEL --prompt-tokens '17 4 250' --max-tokens 8   a model without tokenizer";

/// Arguments of `sage generate`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// What to answer
    #[arg(long, required_unless_present_any = ["prompt_tokens", "messages"])]
    prompt: Option<String>,
    /// A conversation as JSON, its last message to be answered: messages as OpenAI's API has them, or an object that has them with
    /// tools; parts of type image and audio name a file beside it
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["prompt", "prompt_tokens", "system", "raw", "image", "audio"])]
    messages: Option<PathBuf>,
    /// Token ids in place of a prompt; the answer is printed as ids too
    #[arg(long, conflicts_with_all = ["prompt", "system", "raw"])]
    prompt_tokens: Option<String>,
    /// A system message before the prompt
    #[arg(long)]
    system: Option<String>,
    /// Continue the prompt as it is, without the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    template: TemplateOptions,
    /// The trained number of experts, chosen as the reference does; memory changes speed, never the answer
    #[arg(long)]
    exact: bool,
    /// Tokens of the answer at most [default: session.answer_tokens, 256]
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Do not end at the model's stop token
    #[arg(long)]
    ignore_stop: bool,
    #[command(flatten)]
    media: MediaArgs,
    #[command(flatten)]
    speaking: SpeakArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tokens of context to reserve memory for [default: session.context_tokens, prompt and answer]
    #[arg(long)]
    context: Option<usize>,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    learning: LedgerArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct GenerateReport<'a> {
    mode: &'a RunMode,
    /// What was said; what was thought before it stands apart.
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    tokens: &'a [u32],
    ended: Ended,
    #[serde(flatten)]
    cost: &'a RequestCost,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    speech: Option<SpeechReport<'a>>,
    peak_rss_bytes: u64,
    read_bytes: ReadBytes,
    kernel_read_bytes: Option<u64>,
}

/// What is asked, before the model is opened.
struct PreparedRequest {
    request: Request,
    /// Its media, decoded.
    sensed: Option<DecodedMedia>,
    /// Tokens of its prompt.
    prompt_tokens: usize,
    /// What tells thoughts in the answer to a rendered prompt.
    thinking: Option<Thinking>,
    text: Option<Text>,
}

/// Runs the command.
pub fn run(args: &GenerateArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.sampling.check()?;
    check_max_tokens(args.max_tokens)?;
    args.learning.check(args.exact)?;
    args.running.set_threads()?;
    let exact = args.exact.then_some("--exact");
    let RunningSettings { settings, mut mind } = args.running.resolve(exact, |sources| {
        args.sampling.say(sources);
        sources.option(keys::ANSWER_TOKENS, "--max-tokens", args.max_tokens);
        sources.option(keys::CONTEXT_TOKENS, "--context", args.context);
        sources.option(
            keys::MEDIA_TOKENS,
            "--media-tokens",
            args.media.media_tokens,
        );
    })?;
    let (answer_tokens, media_tokens) = (
        settings.session.answer_tokens,
        settings.session.media_tokens,
    );
    let mut speech = args.speaking.begin(args.exact)?;
    if speech.is_some() {
        check_spoken_tokens(answer_tokens)?;
    }
    let source = opening::source(&args.model)?;
    let mut asked = args.asked(&*source, media_tokens)?;
    asked.request.voice = speech.as_ref().map(|speech| speech.choice.clone());
    // One answer and then the process ends: nothing else will want the rest of the pool.
    mind.budgets.focus.expert_memory = 1.0;
    let needed = asked.prompt_tokens.saturating_add(answer_tokens);
    let context_tokens = settings.session.context_tokens.unwrap_or(needed);
    if context_tokens < needed {
        return Err(EngineError::ContextFull {
            needed,
            capacity: context_tokens,
        }
        .into());
    }
    let engine = EngineOptions {
        context_tokens,
        chunk_tokens: settings.session.chunk_tokens,
        kv: settings.session.kv_precision,
        mind,
        degrade: args.running.degrade,
        senses: senses_of(asked.request.content.media()),
        media_tokens,
        speaks: speech.is_some(),
        codes: speech.as_ref().map_or(0, |speech| speech.codes),
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    let plan = SessionPlan {
        text: asked.text.take(),
        learning: args.learning.learning(),
        ..SessionPlan::new(engine, &settings)
    };
    opening::runtime()?.block_on(answer(source, plan, asked, speech.as_mut(), printer))
}

/// Opens the session, answers, and reports.
async fn answer(
    source: Arc<dyn WeightSource>,
    plan: SessionPlan,
    asked: PreparedRequest,
    mut speech: Option<&mut SpeechFile<'_>>,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    let is_text = plan.text.is_some();
    let mut session = opening::session(source, plan, printer).await?;
    let mode = session.mode().clone();
    printer.note(format_args!("mode: {}", mode.text));
    let mut shown = AnswerPrinter {
        thinking: asked.thinking,
        whole: String::new(),
        thought: String::new(),
        printer,
    };
    let watch = WorkWatch::start(session.engine().progress(), printer);
    let mut trouble = None;
    let mut hear = |event: Event| {
        event.emit();
        if matches!(
            event.kind,
            EventKind::Token { .. } | EventKind::Answer { .. }
        ) {
            watch.clear();
        }
        let heard = match &event.kind {
            EventKind::Token { text, .. } => shown.tell(text),
            EventKind::Answer { .. } => shown.finish(),
            EventKind::Audio(audio) => speech.as_mut().map_or(Ok(()), |s| s.write(audio)),
            _ => Ok(()),
        };
        trouble = trouble.take().or(heard.err());
        trouble.is_none()
    };
    let features = asked.sensed.map(|sensed| sensed.features);
    let answered = session.answer(asked.request, features, &mut hear).await;
    watch.clear();
    let read = session.engine().read_bytes();
    let state = session.state();
    let (answer, spoken) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            // Of a run that failed the log keeps what was learned.
            session.abort().await;
            return Err(error.into());
        }
    };
    session.close().await?;
    if let Some(error) = trouble {
        return Err(error);
    }
    if let Some(speech) = &mut speech {
        if spoken.is_none() && answer.ended.is_whole() {
            return Err(EngineError::from(SpeechError::TooShort).into());
        }
        speech.finish()?;
    }
    let report = Answered {
        mode: &mode,
        is_text,
        answer: &answer,
        spoken: spoken.as_ref(),
        state,
        read_bytes: read,
    };
    report.tell(&shown, speech.as_deref(), printer)?;
    Ok(CommandOutcome::Done)
}

impl GenerateArgs {
    /// What is asked.
    fn asked(
        &self,
        source: &dyn WeightSource,
        media_tokens: usize,
    ) -> Result<PreparedRequest, CliError> {
        let text = match self.prompt_tokens {
            Some(_) => None,
            None => Some(self.template.text(source)?),
        };
        let (content, tools) = self.content()?;
        let mut sensed = None;
        let media = content.media();
        if !media.is_empty() {
            if media.iter().any(|m| m.kind == MediumKind::Picture) {
                // They are resampled before the model is opened.
                opening::start_threads(None)?;
            }
            let found = sense(source, media, 0.0, media_tokens);
            sensed = Some(found.map_err(EngineError::from)?);
        }
        let prompting = Prompting {
            text: text.as_ref(),
            config: &source.config().thinker,
            goal: None,
        };
        let prompt = prompting.prompt(&content, &tools)?;
        let tokens = prompting.expanded_tokens(&content, &tools, sensed.as_ref())?;
        Ok(PreparedRequest {
            prompt_tokens: tokens.len(),
            thinking: prompt.map(|prompt| Thinking::behind(&prompt.text)),
            request: Request {
                stop: match self.ignore_stop {
                    true => Stop::Never,
                    false => Stop::Model,
                },
                tools,
                unmeasured: self.exact,
                ..Request::new("user", content)
            },
            sensed,
            text,
        })
    }

    /// What is said, and the tools that may be called.
    fn content(&self) -> Result<(RequestContent, Vec<serde_json::Value>), CliError> {
        if let Some(path) = &self.messages {
            let conversation = Conversation::read(path).map_err(CliError::request)?;
            let Conversation { content, tools } = conversation;
            return Ok((content, tools));
        }
        let media = self.media.read()?;
        if let Some(ids) = &self.prompt_tokens {
            let tokens = token_ids(ids)?;
            return Ok((RequestContent::Tokens { media, tokens }, Vec::new()));
        }
        let prompt = without_mark(self.prompt.as_deref().unwrap_or_default());
        let text = prompt.to_owned();
        let content = match &self.system {
            _ if self.raw => RequestContent::Raw { media, text },
            None => RequestContent::Said { media, text },
            Some(system) => {
                let system = Message::new("system", without_mark(system));
                RequestContent::behind(vec![system], media, &text)
            }
        };
        Ok((content, Vec::new()))
    }
}

/// The answer as it comes.
struct AnswerPrinter<'a> {
    thinking: Option<Thinking>,
    /// What was said.
    whole: String,
    /// What was thought before.
    thought: String,
    printer: &'a Printer,
}

impl AnswerPrinter<'_> {
    /// Shows what is told of a piece of the answer.
    fn tell(&mut self, piece: &str) -> Result<(), CliError> {
        let Some(thinking) = &mut self.thinking else {
            return self.show(piece);
        };
        for shown in thinking.push(piece) {
            self.part(shown)?;
        }
        Ok(())
    }

    fn part(&mut self, shown: template::AnswerPiece) -> Result<(), CliError> {
        match shown {
            template::AnswerPiece::Said(text) => {
                if self.whole.is_empty() && !self.thought.is_empty() {
                    self.printer.end_thought();
                }
                self.show(&text)
            }
            template::AnswerPiece::Thought(text) => {
                self.printer.thought(&text);
                self.thought.push_str(&text);
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        if let Some(shown) = self.thinking.as_mut().and_then(Thinking::finish) {
            self.part(shown)?;
        }
        if self.printer.is_json() {
            Ok(())
        } else {
            self.printer.line("")
        }
    }

    fn show(&mut self, shown: &str) -> Result<(), CliError> {
        self.whole.push_str(shown);
        if self.printer.is_json() {
            return Ok(());
        }
        self.printer.part(shown)
    }
}

/// What is reported at the end.
struct Answered<'a> {
    mode: &'a RunMode,
    /// The model has words; else only token ids.
    is_text: bool,
    answer: &'a Answer,
    spoken: Option<&'a SpokenAnswer>,
    state: State,
    read_bytes: ReadBytes,
}

impl Answered<'_> {
    fn tell(
        &self,
        shown: &AnswerPrinter<'_>,
        speech: Option<&SpeechFile<'_>>,
        printer: &Printer,
    ) -> Result<(), CliError> {
        let (_, peak_rss_bytes) = resident_set();
        let Answer {
            tokens,
            cost,
            ended,
            ..
        } = self.answer;
        let speech = speech.zip(self.spoken.map(|spoken| &spoken.spoken));
        if printer.is_json() {
            return printer.json(&GenerateReport {
                mode: self.mode,
                text: self.is_text.then_some(shown.whole.as_str()),
                reasoning: Some(shown.thought.as_str()).filter(|thought| !thought.is_empty()),
                tokens,
                ended: *ended,
                cost,
                state: self.state,
                speech: speech.map(|(speech, spoken)| speech.report(spoken)),
                peak_rss_bytes,
                read_bytes: self.read_bytes,
                kernel_read_bytes: kernel_read_bytes(),
            });
        }
        printer.note(format_args!(
            "{} prompt tokens at {:.1} a second, {} answer tokens at {:.1} a second; {:.1} % hits, {} missed a token, waited {:.1} ms a token; read {}; peak memory {}",
            cost.prompt_tokens,
            cost.prefill_tokens_per_second,
            cost.answer_tokens,
            cost.decode_tokens_per_second,
            cost.decode_hit_rate * 100.0,
            human_bytes(cost.decode_bytes_per_token as u64),
            cost.stall_ms_per_token,
            self.read_bytes,
            human_bytes(peak_rss_bytes),
        ));
        if let Some((speech, spoken)) = speech {
            speech.tell(spoken, printer);
        }
        if *ended == Ended::Depletion {
            printer.warn("the answer ended because the energy was used up (depletion)");
        }
        Ok(())
    }
}
