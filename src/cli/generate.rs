//! `sage generate`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use sage_actors::protocol::State;
use serde::Serialize;

use super::media::{self, MediaArgs};
use super::opening::{self, LedgerArgs, RunningArgs};
use super::sampling::{SamplingArgs, check_max_tokens};
use super::speaking::{SpeakArgs, Speech, SpeechReport};
use super::template::TemplateOptions;
use super::{CliError, Outcome, Printer, human_bytes};
use crate::core::generate::{Generation, Request, generate};
use crate::core::memory::resident_set;
use crate::core::perception::{expand, sense, senses_of};
use crate::core::speech::Spoken;
use crate::core::{Engine, EngineError};
use crate::events::Mode;
use crate::input::without_mark;
use crate::media::medium::MediumKind;
use crate::reads::{ReadBytes, kernel_read_bytes};
use crate::sensors::Machine;
use crate::session::opening::EngineOptions;
use crate::text::stop_tokens;
use crate::text::template::{self, Thinking};
use crate::text::{Message, Stream, Text};

const EXAMPLES: &str = "Examples:
  sage generate MODEL --prompt 'What is 21 + 3?'
  sage generate MODEL --prompt 'Tell me a story.' --temperature 0.8 --seed 7 --limit 6GiB
  sage generate MODEL --prompt 'What is 21 + 3?' --template-arg enable_thinking=false
  sage generate MODEL --prompt 'What is 21 + 3?' --exact      the reference's experts, whatever the limit
  sage generate MODEL --audio word.wav --prompt 'What is said?'
  sage generate MODEL --image photo.jpg --prompt 'What is this?' --limit 6GiB
  sage generate MODEL --prompt 'Good morning.' --speak answer.wav --speaker chelsie
  sage generate MODEL --prompt-tokens '17 4 250' --max-tokens 8   a model without tokenizer";

/// Arguments of `sage generate`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// Checkpoint or store
    model: PathBuf,
    /// What to answer
    #[arg(long, required_unless_present = "prompt_tokens")]
    prompt: Option<String>,
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
    /// Tokens of the answer at most
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Do not end at the model's stop token
    #[arg(long)]
    ignore_stop: bool,
    #[command(flatten)]
    media: MediaArgs,
    #[command(flatten)]
    speaking: SpeakArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tokens of context to reserve memory for [default: prompt and answer]
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
struct Report<'a> {
    mode: &'a Mode,
    /// What was said; what was thought before it stands apart.
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    tokens: &'a [u32],
    #[serde(flatten)]
    generation: &'a Generation,
    #[serde(skip_serializing_if = "Option::is_none")]
    speech: Option<SpeechReport<'a>>,
    peak_rss_bytes: u64,
    read_bytes: ReadBytes,
    kernel_read_bytes: Option<u64>,
}

/// Runs the command.
pub fn run(args: &GenerateArgs, printer: &Printer) -> Result<Outcome, CliError> {
    let sampling = args.sampling.checked()?;
    check_max_tokens(args.max_tokens)?;
    args.learning.check(args.exact)?;
    args.running.set_threads()?;
    let seed = sampling.seed;
    let mut speech = args.speaking.begin(args.max_tokens, args.exact, seed)?;
    let source = opening::source(&args.model)?;
    let text = if args.prompt.is_some() {
        Some(args.template.text(&*source)?)
    } else {
        None
    };
    let media = args.media.read()?;
    let config = &source.config().thinker;
    let (mut tokens, thinking) = args.tokens(text.as_ref(), &media::places(config, &media)?)?;
    let mut sensed = None;
    if !media.is_empty() {
        if media
            .iter()
            .any(|medium| medium.kind == MediumKind::Picture)
        {
            // They are resampled before the model is opened.
            opening::start_threads(None)?;
        }
        let found = sense(&*source, &media, 0.0, args.media.media_tokens);
        let found = found.map_err(EngineError::from)?;
        tokens = expand(config, &tokens, &found);
        sensed = Some(found);
    }
    let mut mind = args.running.mind(args.exact)?;
    // One answer and then the process ends: nothing else will want the rest of the pool.
    mind.budgets.focus.expert_memory = 1.0;
    let needed = tokens.len().saturating_add(args.max_tokens);
    let context_tokens = args.context.unwrap_or(needed);
    if context_tokens < needed {
        return Err(EngineError::ContextFull {
            needed,
            capacity: context_tokens,
        }
        .into());
    }
    let options = EngineOptions {
        context_tokens,
        chunk_tokens: 128,
        mind: mind.clone(),
        degrade: args.running.degrade,
        senses: senses_of(&media),
        media_tokens: args.media.media_tokens,
        speaks: speech.is_some(),
        codes: args.speaking.codes().unwrap_or_default(),
        ..EngineOptions::default()
    }
    .limited(args.running.limit, Machine::of_process());
    let stop = if args.ignore_stop {
        Vec::new()
    } else {
        stop_tokens(&*source).map_err(EngineError::from)?
    };
    let request = Request {
        tokens,
        sensed,
        sampling,
        max_tokens: args.max_tokens,
        stop,
        measure: !args.exact,
    };
    opening::runtime()?.block_on(async {
        let mut engine = opening::engine(source, options, printer).await?;
        let mut mode = opening::mode(&engine, &mind)?;
        args.learning.begin(&mut engine, &mut mode, printer).await?;
        printer.note(format_args!("mode: {}", mode.text));
        let mut shown = Shown {
            text: text.as_ref(),
            stream: Stream::default(),
            thinking,
            whole: String::new(),
            thought: String::new(),
            printer,
        };
        let answered = answer(&mut engine, &request, &mut shown, speech.as_mut()).await;
        let read = engine.read_bytes();
        engine.shutdown().await;
        let (generation, spoken) = answered?;
        report(
            printer,
            &mode,
            &shown,
            &generation,
            speech.as_ref().zip(spoken.as_ref()),
            read,
        )?;
        Ok(Outcome::Done)
    })
}

/// Answers, and speaks the answer where that is asked for.
async fn answer(
    engine: &mut Engine,
    request: &Request,
    shown: &mut Shown<'_>,
    mut speech: Option<&mut Speech<'_>>,
) -> Result<(Generation, Option<Spoken>), CliError> {
    if let Some(speech) = &speech {
        // Before anything is read.
        engine.check_speech(&request.tokens, &speech.request)?;
    }
    let mut trouble = None;
    let generation = generate(engine, request, |token, _| match shown.token(token) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            trouble = Some(error);
            ControlFlow::Break(())
        }
    });
    // Of a run that failed the log keeps what was learned.
    let generation = generation.await?;
    engine.keep().await?;
    match trouble {
        Some(error) => return Err(error),
        None => shown.finish()?,
    }
    let spoken = match &mut speech {
        Some(speech) => Some(speech.speak(engine, generation.said.as_ref()).await?),
        None => None,
    };
    Ok((generation, spoken))
}

impl GenerateArgs {
    /// The prompt, with `places` before its words; and what tells thoughts in the answer to a rendered one.
    fn tokens(
        &self,
        text: Option<&Text>,
        places: &[u32],
    ) -> Result<(Vec<u32>, Option<Thinking>), CliError> {
        let (Some(text), Some(prompt)) = (text, &self.prompt) else {
            let ids = self.prompt_tokens.as_deref().unwrap_or_default();
            let ids = ids
                .split(|c: char| c == ',' || c.is_whitespace())
                .filter(|id| !id.is_empty());
            let ids = ids.map(|id| {
                id.parse().map_err(|_| {
                    CliError::request(format!("`{id}` in --prompt-tokens is no token id"))
                })
            });
            return Ok((ids.collect::<Result<_, CliError>>()?, None));
        };
        let prompt = without_mark(prompt);
        if self.raw {
            let said = text.encode_untrusted(prompt).map_err(EngineError::from)?;
            return Ok(([places, &said].concat(), None));
        }
        let places = text.spelled(places).map_err(EngineError::from)?;
        let system = self.system.as_deref().map(without_mark);
        let system = system.into_iter().map(|text| Message::new("system", text));
        let user = Message::new("user", format!("{places}{prompt}"));
        let messages: Vec<Message> = system.chain([user]).collect();
        let prompt = text.prompt(&messages, &places).map_err(EngineError::from)?;
        let thinking = Thinking::behind(&prompt.text);
        let tokens = text.encode_prompt(&prompt).map_err(EngineError::from)?;
        Ok((tokens, Some(thinking)))
    }
}

/// The answer as it comes.
struct Shown<'a> {
    text: Option<&'a Text>,
    stream: Stream,
    thinking: Option<Thinking>,
    /// What was said.
    whole: String,
    /// What was thought before.
    thought: String,
    printer: &'a Printer,
}

impl Shown<'_> {
    fn token(&mut self, token: u32) -> Result<(), CliError> {
        let shown = match self.text {
            Some(text) => self.stream.push(text, token).map_err(EngineError::from)?,
            None => format!("{token} "),
        };
        self.tell(&shown)
    }

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

    fn part(&mut self, shown: template::Shown) -> Result<(), CliError> {
        match shown {
            template::Shown::Said(text) => {
                if self.whole.is_empty() && !self.thought.is_empty() {
                    self.printer.end_thought();
                }
                self.show(&text)
            }
            template::Shown::Thought(text) => {
                self.printer.thought(&text);
                self.thought.push_str(&text);
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        if let Some(text) = self.text {
            let rest = self.stream.finish(text).map_err(EngineError::from)?;
            self.tell(&rest)?;
        }
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

fn report(
    printer: &Printer,
    mode: &Mode,
    shown: &Shown<'_>,
    generation: &Generation,
    speech: Option<(&Speech<'_>, &Spoken)>,
    read_bytes: ReadBytes,
) -> Result<(), CliError> {
    let (_, peak_rss_bytes) = resident_set();
    if printer.is_json() {
        return printer.json(&Report {
            mode,
            text: shown.text.map(|_| shown.whole.as_str()),
            reasoning: Some(shown.thought.as_str()).filter(|thought| !thought.is_empty()),
            tokens: &generation.tokens,
            generation,
            speech: speech.map(|(speech, spoken)| speech.report(spoken)),
            peak_rss_bytes,
            read_bytes,
            kernel_read_bytes: kernel_read_bytes(),
        });
    }
    printer.note(format_args!(
        "{} prompt tokens at {:.1} a second, {} answer tokens at {:.1} a second; {:.1} % hits, {} missed a token, waited {:.1} ms a token; read {read_bytes}; peak memory {}",
        generation.prompt_tokens,
        generation.prefill_tokens_per_second,
        generation.answer_tokens,
        generation.decode_tokens_per_second,
        generation.decode_hit_rate * 100.0,
        human_bytes(generation.decode_bytes_per_token as u64),
        generation.stall_ms_per_token,
        human_bytes(peak_rss_bytes),
    ));
    if let Some((speech, spoken)) = speech {
        speech.tell(spoken, printer);
    }
    if generation.state == State::Depletion {
        printer.warn("the answer ended because the energy was used up (depletion)");
    }
    Ok(())
}
