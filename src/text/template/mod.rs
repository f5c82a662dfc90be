//! Chat templates, rendered byte for byte as transformers renders them, and as the foreign programs that they are.
//!
//! A template comes with a download and is run before anything is read. It may not take the machine with it:
//!
//! - its source is bounded before it is parsed (`source`),
//! - it runs on a thread of its own, with a stack that the bounds on nesting cannot use up,
//! - the engine's fuel bounds instructions and the bytes that operators, filters and the output make, before they are made,
//! - steps through lists and mappings are counted (`value`), methods that grow a text ask first (`methods`),
//! - and whatever is left (comparing large texts over and over) is given up after some seconds.
//!
//! Fuel grows with what is rendered, so that long conversations have what they need.

mod error;
mod found;
mod fuel;
mod functions;
mod json;
mod message;
mod methods;
mod source;
mod thinking;
mod tokens;
mod value;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use crate::store::WeightSource;
use crate::text::TextError;
pub use error::TemplateError;
use found::{DEFAULT, ModelTemplates, Named, TOOL_USE};
pub use message::{Message, MessageContent, MessagePart};
pub use thinking::{AnswerPiece, Thinking};

/// Instructions, or 64 bytes each, for any rendering: some hundred times what released templates use.
const BASE_STEPS: u64 = 250_000;
/// More of them for each byte that is rendered.
const STEPS_PER_BYTE: u64 = 2;
/// Released templates call macros three deep.
const MAX_RECURSION: usize = 200;
/// Of the thread that renders; pages that are not used cost nothing.
const STACK_BYTES: usize = 64 << 20;
/// A rendering takes a millisecond.
const MAX_TIME: Duration = Duration::from_secs(5);
/// Of a reason that a template gives.
const MAX_REASON_CHARS: usize = 500;

/// The variables that a rendering sets itself.
const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];
/// The time that the function of this name tells, as an argument.
const CLOCK: &str = "strftime_now";

/// Arguments of a chat template beside the conversation, as `enable_thinking`.
///
/// One of them is the clock: where a template asks `strftime_now`, the time is settled once, when the model's text is
/// opened, and is the argument `strftime_now` from then on (`2026-11-29T12:00:00`, UTC). It is what was given, else
/// `SOURCE_DATE_EPOCH`, else the time of day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateArgs(Map<String, Json>);

impl TemplateArgs {
    /// Sets one.
    ///
    /// # Errors
    /// When `key` is no name, or one that every rendering sets itself.
    pub fn set(&mut self, key: &str, value: impl Into<Json>) -> Result<(), String> {
        let name = |c: char| c.is_alphanumeric() || c == '_';
        if key.is_empty() || !key.chars().all(name) || key.starts_with(|c: char| c.is_numeric()) {
            return Err(format!(
                "{key:?} is no name of a template's variable; expected one such as enable_thinking"
            ));
        }
        if RESERVED.contains(&key) {
            return Err(format!(
                "`{key}` is what a template renders; it is no argument"
            ));
        }
        self.0.insert(key.to_owned(), value.into());
        Ok(())
    }

    /// Reads `KEY=VALUE`; the value is JSON, or else the text that it is.
    ///
    /// # Errors
    /// As [`TemplateArgs::set`], and without `=`.
    pub fn parse(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            format!("{pair:?} has no value; expected KEY=VALUE, such as enable_thinking=false")
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
        self.set(key, value)
    }
}

impl From<Map<String, Json>> for TemplateArgs {
    fn from(args: Map<String, Json>) -> Self {
        Self(args)
    }
}

impl From<TemplateArgs> for Map<String, Json> {
    fn from(args: TemplateArgs) -> Self {
        args.0
    }
}

/// What is rendered.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemplateInput<'a> {
    /// Messages of the conversation, oldest first.
    pub messages: &'a [Message],
    /// Schemas of the tools that may be called, as OpenAI's API has them.
    pub tools: &'a [Json],
    /// Documents to answer from.
    pub documents: &'a [Json],
    /// Whether the assistant is to speak next.
    pub add_generation_prompt: bool,
}

impl TemplateInput<'_> {
    /// Everything of it that somebody else wrote, as a template sees it: `messages`, `tools` and `documents`.
    pub(super) fn said(&self) -> Json {
        let list = |items: &[Json]| match items {
            [] => Json::Null,
            items => Json::from(items.to_vec()),
        };
        let messages: Vec<Json> = self.messages.iter().map(Message::to_json).collect();
        serde_json::json!({
            "messages": messages,
            "tools": list(self.tools),
            "documents": list(self.documents),
        })
    }
}

/// The chat template of one model, or its several named ones.
pub struct ChatTemplate {
    named: BTreeMap<String, Template>,
    special_tokens: BTreeMap<String, String>,
    args: TemplateArgs,
    now: Option<jiff::civil::DateTime>,
}

/// One template, compiled when it is first rendered: a broken one is no reason not to count tokens.
struct Template {
    named: Named,
    program: OnceLock<Result<Environment<'static>, TemplateError>>,
}

impl Default for ChatTemplate {
    fn default() -> Self {
        Self::of(ModelTemplates::default(), TemplateArgs::default(), None)
    }
}

impl ChatTemplate {
    /// The template of a model, with the arguments that its user gives.
    ///
    /// # Errors
    /// When a file is damaged, or the clock's argument no time.
    pub fn load(source: &dyn WeightSource, mut args: TemplateArgs) -> Result<Self, TextError> {
        let found = found::find(source)?;
        let now = found.asks(CLOCK).then(|| settle(&mut args)).transpose()?;
        Ok(Self::of(found, args, now))
    }

    /// A template by its Jinja source.
    pub fn new(source: String) -> Self {
        Self::of(ModelTemplates::only(source), TemplateArgs::default(), None)
    }

    fn of(found: ModelTemplates, args: TemplateArgs, now: Option<jiff::civil::DateTime>) -> Self {
        let template = |(name, named)| {
            let program = OnceLock::new();
            (name, Template { named, program })
        };
        Self {
            named: found.named.into_iter().map(template).collect(),
            special_tokens: found.special_tokens,
            args,
            now,
        }
    }

    /// The arguments, the clock among them where it is asked for: the same ones render the same, at any time.
    pub fn args(&self) -> &TemplateArgs {
        &self.args
    }

    /// Renders a conversation. The same input renders the same.
    ///
    /// # Errors
    /// When the template is not valid, refuses the conversation, or asks for more than a template may.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        self.render_said(&input.said(), input.add_generation_prompt)
    }

    /// As [`ChatTemplate::render`], of what [`TemplateInput::said`] answered, or what somebody made of it.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub(super) fn render_said(
        &self,
        said: &Json,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let template = self.chosen(said["tools"].is_array())?;
        let origin = &template.named.origin;
        let program = template
            .program
            .get_or_init(|| compile(&template.named, self.now));
        let mut program = program.clone()?;
        let context = self.context(said, add_generation_prompt);
        let steps = context.values().map(value::weight).sum::<u64>();
        let steps = steps
            .saturating_mul(STEPS_PER_BYTE)
            .saturating_add(BASE_STEPS);
        program.set_fuel(Some(steps));
        let rendered = apart(move || {
            value::allow(steps);
            let context = context
                .iter()
                .map(|(key, json)| Ok((key.as_str(), value::from_json(json)?)));
            let context: BTreeMap<&str, Value> = context.collect::<Result<_, Error>>()?;
            program.get_template(DEFAULT)?.render(Value::from(context))
        });
        match rendered {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(failed(origin, told(&error))),
            Err(trouble) => Err(failed(origin, trouble)),
        }
    }

    /// As transformers chooses: the one for tools if there are any and it is there, else the default.
    fn chosen(&self, tools: bool) -> Result<&Template, TemplateError> {
        let for_tools = self.named.get(TOOL_USE).filter(|_| tools);
        let Some(template) = for_tools.or_else(|| self.named.get(DEFAULT)) else {
            let origin = self.named.values().next();
            let origin = origin.map_or_else(String::new, |one| one.named.origin.clone());
            let names: Vec<&str> = self.named.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return Err(failed(
                &origin,
                format!("none of the templates is named `default`; there are {names}"),
            ));
        };
        Ok(template)
    }

    fn context(&self, said: &Json, add_generation_prompt: bool) -> Map<String, Json> {
        let mut context = Map::new();
        for (key, token) in &self.special_tokens {
            context.insert(key.clone(), Json::from(token.as_str()));
        }
        let args = self.args.0.iter().filter(|(key, _)| *key != CLOCK);
        context.extend(args.map(|(key, value)| (key.clone(), value.clone())));
        for key in ["messages", "tools", "documents"] {
            context.insert(key.to_owned(), said[key].clone());
        }
        let prompt = Json::from(add_generation_prompt);
        context.insert("add_generation_prompt".into(), prompt);
        context
    }
}

/// The time that a template is told, which becomes an argument if it was none.
fn settle(args: &mut TemplateArgs) -> Result<jiff::civil::DateTime, TextError> {
    let time = match args.0.get(CLOCK) {
        Some(given) => given.clone(),
        None => {
            let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
            let epoch = epoch.and_then(|seconds| seconds.trim().parse().ok());
            let epoch = epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            let now = epoch.unwrap_or_else(jiff::Timestamp::now);
            let now = now.to_zoned(jiff::tz::TimeZone::UTC).datetime();
            let seconds = now.round(jiff::Unit::Second).unwrap_or(now);
            Json::from(seconds.to_string())
        }
    };
    let parsed = time.as_str().and_then(|text| text.parse().ok());
    let parsed = parsed.ok_or_else(|| {
        TextError::TemplateArgument(format!(
            "the template's argument {CLOCK} is {time}; expected a time such as 2026-11-29T12:00:00"
        ))
    })?;
    args.0.insert(CLOCK.to_owned(), time);
    Ok(parsed)
}

fn failed(origin: &str, reason: impl Into<String>) -> TemplateError {
    TemplateError {
        origin: origin.to_owned(),
        reason: reason.into(),
    }
}

fn compile(
    named: &Named,
    now: Option<jiff::civil::DateTime>,
) -> Result<Environment<'static>, TemplateError> {
    let fail = |reason: String| failed(&named.origin, reason);
    let prepared = source::prepare(&named.source).map_err(fail)?;
    let compiled = apart(move || {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()?,
        );
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_debug(false);
        functions::install(&mut environment, now);
        environment.add_template_owned(DEFAULT, prepared)?;
        Ok(environment)
    });
    let compiled = compiled.map_err(fail)?;
    compiled.map_err(|error: Error| fail(told(&error)))
}

/// An error of the engine in one sentence.
fn told(error: &Error) -> String {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!("line {line}: "));
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => too_much(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    format!("{line}{}", shortened(&reason))
}

/// What a template says of itself, as far as it can be shown.
fn shortened(reason: &str) -> String {
    let mut shown: String = reason
        .chars()
        .take(MAX_REASON_CHARS)
        .flat_map(|c| match c {
            '\n' | '\t' => vec![' '],
            c if c.is_control() => c.escape_unicode().collect(),
            c => vec![c],
        })
        .collect();
    if reason.chars().nth(MAX_REASON_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn too_much() -> String {
    "it takes more work or more memory than a template may: it is broken, or meant to do harm; take the model's own from \
     where it was published"
        .to_owned()
}

/// Does `work` on a thread with a stack for all that a template may nest, and for a bounded time.
fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<Result<T, Error>, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("chat template".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            // Nobody listens any more when the time is over.
            let _ = sender.send(done);
        });
    let thread = thread.map_err(|error| format!("there is no thread to render it on: {error}"))?;
    let done = receiver.recv_timeout(MAX_TIME);
    match done {
        Ok(Ok(done)) => {
            // Its stack is given back before anything else is done.
            let _ = thread.join();
            Ok(done)
        }
        Ok(Err(trouble)) if trouble.is::<value::Exhausted>() => Err(too_much()),
        Ok(Err(_)) => Err("the engine of templates failed at it".to_owned()),
        Err(_) => Err(format!(
            "it was not done after {} seconds: {}",
            MAX_TIME.as_secs(),
            too_much()
        )),
    }
}
