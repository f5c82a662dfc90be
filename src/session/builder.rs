//! What a loop is built from.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sage_actors::config::{MindConfig, RoutingPolicy};
use sage_actors::protocol::Modality;

use super::driver::{Plan, Polled};
use super::error::BuildError;
use super::exact::resolve_mind;
use super::handle::Sage;
use super::inbox::Bound;
use super::open::RecordingPlan;
use super::ports::{Action, Effector, Listener, Sensor};
use crate::core::MOST_THREADS;
use crate::core::request::VoiceChoice;
use crate::input::Limit;
use crate::model::talker::choice::MAX_CODES;
use crate::sensors::{Live, Machine};
use crate::session::opening::EngineOptions;
use crate::settings::{Sources, keys};
use crate::text::template::TemplateArgs;
use crate::trace::SensorMode;

/// With fewer places there would be no room for an alarm beside what is being read.
const LEAST_INBOX: usize = 8;
const MOST_INBOX: usize = 1 << 20;

/// Bytes that may wait unless said otherwise: of texts, and of files where the loop hears or sees.
const INBOX_BYTES: usize = 4 << 20;
const INBOX_MEDIA_BYTES: usize = 32 << 20;

/// A change of the mind's configuration.
type Change = Box<dyn FnOnce(&mut MindConfig) + Send>;

/// Builds a loop; [`Builder::build`] says what is wrong with any of it. Only the model must be named.
#[must_use = "nothing runs until .build()"]
pub struct Builder {
    model: Option<PathBuf>,
    limit: Option<String>,
    context_tokens: Option<usize>,
    chunk_tokens: Option<usize>,
    answer_tokens: Option<usize>,
    temperature: Option<f32>,
    seed: Option<u64>,
    exact: bool,
    degrade: bool,
    senses: Vec<Modality>,
    media_tokens: Option<usize>,
    voice: Option<VoiceChoice>,
    template_args: Vec<(String, serde_json::Value)>,
    settings: Sources,
    configure: Vec<Change>,
    ledger: Option<PathBuf>,
    record: Option<PathBuf>,
    record_logits: bool,
    control_tokens: bool,
    goal: Option<String>,
    sensors: Vec<Box<dyn Sensor>>,
    machine_sensors: bool,
    sysfs: Option<PathBuf>,
    effectors: Vec<Box<dyn Effector>>,
    inbox: usize,
    inbox_bytes: Option<usize>,
    events: usize,
    actions: usize,
    pace: Duration,
    threads: Option<usize>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            model: None,
            limit: None,
            context_tokens: None,
            chunk_tokens: None,
            answer_tokens: None,
            temperature: None,
            seed: None,
            exact: false,
            degrade: false,
            senses: Vec::new(),
            media_tokens: None,
            voice: None,
            template_args: Vec::new(),
            settings: Sources::default(),
            configure: Vec::new(),
            ledger: None,
            record: None,
            record_logits: false,
            control_tokens: false,
            goal: None,
            sensors: Vec::new(),
            machine_sensors: false,
            sysfs: None,
            effectors: Vec::new(),
            inbox: 256,
            inbox_bytes: None,
            events: 4096,
            actions: 256,
            pace: Duration::from_millis(100),
            threads: None,
        }
    }
}

impl Builder {
    /// The folder of a Hugging Face checkpoint or of an extracted store (`sage extract`).
    pub fn model(mut self, folder: impl AsRef<Path>) -> Self {
        self.model = Some(folder.as_ref().to_owned());
        self
    }

    /// The memory limit of the whole process, the host's own memory included: `512MiB`, `6GiB`, `25%` (of everything
    /// resident), `64slots` (experts beyond what must be there), or `none`. Without one there is none where everything of the
    /// model fits; else one is chosen from what the machine and its control groups have left, and said in
    /// [`crate::events::Mode::limit_reason`]. One above the machine is refused.
    pub fn limit(mut self, size: impl Into<String>) -> Self {
        self.limit = Some(size.into());
        self
    }

    /// Tokens of context to reserve memory for: a question with the goal and its answer must fit. Without it 2048, or what
    /// the model was made for.
    pub fn context_tokens(mut self, tokens: usize) -> Self {
        self.context_tokens = Some(tokens);
        self
    }

    /// Tokens that one tick reads at most (128): smaller chunks hear an alarm sooner, larger ones read faster.
    pub fn chunk_tokens(mut self, tokens: usize) -> Self {
        self.chunk_tokens = Some(tokens);
        self
    }

    /// Tokens of an answer at most (256).
    pub fn answer_tokens(mut self, tokens: usize) -> Self {
        self.answer_tokens = Some(tokens);
        self
    }

    /// 0 (the default) always says the most probable token.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Of the sampling. The same seed and observations give the same answers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Chooses the experts as the reference implementation does, whatever the limit; only speed depends on memory then.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Runs a store that lacks experts; what the routers lose is counted as denied.
    pub fn degrade(mut self) -> Self {
        self.degrade = true;
        self
    }

    /// Hears: memory is planned for the model's audio tower, and [`crate::session::Observation::heard`] can be observed.
    pub fn hears(mut self) -> Self {
        self.senses.push(Modality::Audio);
        self
    }

    /// Sees: memory is planned for the model's vision tower, and [`crate::session::Observation::seen`] can be observed.
    pub fn sees(mut self) -> Self {
        self.senses.push(Modality::Vision);
        self
    }

    /// Speaks: memory is planned for the model's voice, and every answer is spoken, in pieces
    /// ([`crate::session::Action::Sound`]). A request may name a voice of its own ([`crate::session::Request::voice`]).
    pub fn speaks(self) -> Self {
        self.speaks_as(VoiceChoice::default())
    }

    /// As [`Builder::speaks`], in this voice.
    pub fn speaks_as(mut self, voice: VoiceChoice) -> Self {
        self.voice = Some(voice);
        self
    }

    /// Tokens that the sounds (13 a second) and the pictures (1,024 pixels each) of one observation may take. The default is 512.
    pub fn media_tokens(mut self, tokens: usize) -> Self {
        self.media_tokens = Some(tokens);
        self
    }

    /// A variable of the chat template, such as `enable_thinking` with `false`; may be said again for another.
    pub fn template_arg(
        mut self,
        key: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.template_args.push((key.into(), value.into()));
        self
    }

    /// The layers of settings. The default is `config/default.toml` alone;
    /// [`Sources::of_process`] reads `SAGE_CONFIG` and the environment as the commands do. Call before [`Builder::set`].
    pub fn settings(mut self, sources: Sources) -> Self {
        self.settings = sources;
        self
    }

    /// One setting over all files and variables, such as `mind.budgets.wake.f=0.75`; `sage config` lists them.
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.settings.set.push(setting.into());
        self
    }

    /// Changes the mind's configuration after all settings.
    pub fn configure(mut self, change: impl FnOnce(&mut MindConfig) + Send + 'static) -> Self {
        self.configure.push(Box::new(change));
        self
    }

    /// A trust ledger to go on from, and to keep in what is learned; made if it is not there.
    pub fn ledger(mut self, file: impl AsRef<Path>) -> Self {
        self.ledger = Some(file.as_ref().to_owned());
        self
    }

    /// Records every input, decision and token into this file, which must not be there yet; [`replay::verify`] repeats it.
    ///
    /// [`replay::verify`]: crate::replay::verify
    pub fn record(mut self, file: impl AsRef<Path>) -> Self {
        self.record = Some(file.as_ref().to_owned());
        self
    }

    /// Records the router logits too, so that the mind can be asked again without the model
    /// ([`replay::ask_again`]).
    ///
    /// [`replay::ask_again`]: crate::replay::ask_again
    pub fn record_logits(mut self) -> Self {
        self.record_logits = true;
        self
    }

    /// Control tokens that are spelled out in texts, questions and goals (`<|im_end|>`, `<|image_pad|>`) are such. Without it
    /// they are text like the rest, whoever says it.
    pub fn allow_control_tokens(mut self) -> Self {
        self.control_tokens = true;
        self
    }

    /// A standing instruction from the beginning: the first observation, of the source `host`.
    pub fn goal(mut self, text: impl Into<String>) -> Self {
        self.goal = Some(text.into());
        self
    }

    /// Something to measure.
    pub fn sensor(mut self, sensor: impl Sensor + 'static) -> Self {
        self.sensors.push(Box::new(sensor));
        self
    }

    /// Observes the machine's own sensors too (memory pressure, temperature, battery), every `sensors.every_ticks` ticks.
    pub fn machine_sensors(mut self) -> Self {
        self.machine_sensors = true;
        self
    }

    /// A folder with `proc` and `sys` that stands for the machine, where its memory and its sensors are read; else `/`.
    pub fn sysfs(mut self, folder: impl AsRef<Path>) -> Self {
        self.sysfs = Some(folder.as_ref().to_owned());
        self
    }

    /// Something to act through.
    pub fn effector(mut self, effector: impl Effector + 'static) -> Self {
        self.effectors.push(Box::new(effector));
        self
    }

    /// A function that hears of every action, on the loop's thread.
    pub fn on_action(self, hear: impl FnMut(&Action) + Send + 'static) -> Self {
        self.effector(Listener(hear))
    }

    /// Observations that may wait (256), those that the loop has taken and not read included.
    pub fn inbox(mut self, observations: usize) -> Self {
        self.inbox = observations;
        self
    }

    /// Bytes of texts and files that may wait: 4 MiB, or 32 MiB where the loop hears or sees. Memory is planned for the files.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.inbox_bytes = Some(bytes);
        self
    }

    /// Events that a telemetry stream holds for a slow reader (4096); those beyond are counted and said in the stream.
    pub fn telemetry_events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    /// Actions that a stream of actions holds for a slow reader (256). Effectors hear of every action at once.
    pub fn pending_actions(mut self, actions: usize) -> Self {
        self.actions = actions;
        self
    }

    /// Free-running: what a tick in which there is nothing to do lasts (100 ms). An observation ends it at once.
    pub fn idle_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Threads of the arithmetic, for this loop alone. Without it, all cores. The result does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Opens the model and starts the loop's thread; nothing ticks yet. Runs inside any runtime, or none.
    ///
    /// # Errors
    /// When something that was asked for cannot be: the error names it, its value, and what was expected.
    pub async fn build(self) -> Result<Sage, BuildError> {
        let bounds = (self.events, self.actions);
        let goal = self.goal.clone();
        let threads = self.checked_threads()?;
        let plan = self.checked()?;
        Sage::start(plan, bounds, goal, threads).await
    }

    fn checked_threads(&self) -> Result<Option<NonZeroUsize>, BuildError> {
        let Some(threads) = self.threads else {
            return Ok(None);
        };
        within("threads", threads, 1..=MOST_THREADS, "1 to 1024")?;
        Ok(NonZeroUsize::new(threads))
    }

    fn checked(mut self) -> Result<Plan, BuildError> {
        let model = self.model.take().ok_or(BuildError::NoModel)?;
        let inbox_bytes = self.checked_bounds()?;
        self.checked_answers()?;
        let limit = self.limit.as_deref().map(str::parse::<Limit>).transpose()?;
        self.settings.program(keys::LIMIT, "limit", limit);
        let settings = self.settings.load()?;
        let mut mind = resolve_mind(&settings, self.exact).map_err(|_| {
            BuildError::Contradiction(
                "an exact loop routes exactly: leave .set(\"mind.routing=…\") out, or .exact",
            )
        })?;
        for change in std::mem::take(&mut self.configure) {
            change(&mut mind);
        }
        if self.degrade && mind.routing == RoutingPolicy::Exact {
            return Err(BuildError::Contradiction(
                "exact routing does without no expert: leave .degrade out, or the exactness",
            ));
        }
        let exact = self.exact;
        let voice = self.voice.map(|voice| VoiceChoice {
            greedy: voice.greedy || exact,
            ..voice
        });
        let machine = Machine::read(self.sysfs.as_deref());
        let live = self.machine_sensors;
        Ok(Plan {
            model,
            engine: EngineOptions {
                chunk_tokens: settings.session.chunk_tokens,
                mind,
                degrade: self.degrade,
                senses: self.senses,
                media_tokens: settings.session.media_tokens,
                waiting_media_bytes: inbox_bytes as u64,
                speaks: voice.is_some(),
                codes: voice
                    .as_ref()
                    .and_then(|v| v.max_codes)
                    .unwrap_or(MAX_CODES),
                ..EngineOptions::default()
            }
            .limited(settings.session.limit, machine),
            ledger: self.ledger,
            recording: self.record.map(|path| RecordingPlan {
                path,
                logits: self.record_logits,
                name: "embedded".to_owned(),
                sensors: SensorMode::Live,
            }),
            control_tokens: self.control_tokens,
            template_args: template_args(self.template_args)?,
            voice,
            sensors: self.sensors.into_iter().map(Polled::new).collect(),
            live: live.then(|| Live::new(self.sysfs.as_deref(), settings.sensors)),
            effectors: self.effectors,
            pace: self.pace,
            bound: Bound {
                observations: self.inbox,
                bytes: inbox_bytes,
            },
            settings,
        })
    }

    /// Bounds of what waits; the bytes that may.
    fn checked_bounds(&self) -> Result<usize, BuildError> {
        let inbox_bytes = self.inbox_bytes.unwrap_or(match self.senses.is_empty() {
            true => INBOX_BYTES,
            false => INBOX_MEDIA_BYTES,
        });
        within("inbox_bytes", inbox_bytes, 1..=usize::MAX, "at least 1")?;
        within(
            "inbox",
            self.inbox,
            LEAST_INBOX..=MOST_INBOX,
            "8 to 1048576",
        )?;
        // What is missing has to be said beside what is not.
        let stream = 2..=MOST_INBOX;
        let events = self.events;
        within("telemetry_events", events, stream.clone(), "2 to 1048576")?;
        within("pending_actions", self.actions, stream, "2 to 1048576")?;
        if self.pace < Duration::from_millis(1) {
            return Err(BuildError::Value {
                name: "idle_pace",
                value: format!("{:?}", self.pace),
                expected: "at least 1ms: an idle loop must not take the whole processor",
            });
        }
        if self.record_logits && self.record.is_none() {
            return Err(BuildError::Contradiction(
                "router logits are recorded, but nothing else is: say .record(FILE), or leave .record_logits out",
            ));
        }
        if self.exact && self.ledger.is_some() {
            return Err(BuildError::Contradiction(
                "an exact loop asks no trust and learns none: leave .ledger out, or .exact",
            ));
        }
        Ok(inbox_bytes)
    }

    /// What was called of context, answers and sampling, on its way into the settings.
    fn checked_answers(&mut self) -> Result<(), BuildError> {
        let tokens = [
            ("answer_tokens", keys::ANSWER_TOKENS, self.answer_tokens),
            ("chunk_tokens", keys::CHUNK_TOKENS, self.chunk_tokens),
            ("context_tokens", keys::CONTEXT_TOKENS, self.context_tokens),
            ("media_tokens", keys::MEDIA_TOKENS, self.media_tokens),
        ];
        for (name, key, value) in tokens {
            within(name, value.unwrap_or(1), 1..=usize::MAX, "at least 1")?;
            self.settings.program(key, name, value);
        }
        if let Some(temperature) = self.temperature
            && !(temperature >= 0.0 && temperature.is_finite())
        {
            return Err(BuildError::Value {
                name: "temperature",
                value: temperature.to_string(),
                expected: "0 or more",
            });
        }
        let temperature = self.temperature;
        self.settings
            .program(keys::TEMPERATURE, "temperature", temperature);
        self.settings.program(keys::SEED, "seed", self.seed);
        Ok(())
    }
}

fn template_args(given: Vec<(String, serde_json::Value)>) -> Result<TemplateArgs, BuildError> {
    let mut args = TemplateArgs::default();
    for (key, value) in given {
        args.set(&key, value).map_err(|_| BuildError::Value {
            name: "template_arg",
            value: format!("{key:?}"),
            expected: "the name of a variable that the template does not get anyway, such as enable_thinking",
        })?;
    }
    Ok(args)
}

fn within(
    name: &'static str,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
    expected: &'static str,
) -> Result<(), BuildError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(BuildError::Value {
        name,
        value: value.to_string(),
        expected,
    })
}
