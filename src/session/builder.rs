//! What a loop is built from.

use std::path::Path;
use std::time::Duration;

use sage_actors::config::MindConfig;
use sage_actors::protocol::Modality;

use super::error::BuildError;
use super::handle::Sage;
use super::loop_options::LoopOptions;
use super::ports::{Action, Effector, Listener, Sensor};
use crate::core::request::VoiceChoice;
use crate::input::KvPrecision;
use crate::settings::Sources;

/// Builds a loop; [`Builder::build`] says what is wrong with any of it. Only the model must be named.
#[derive(Default)]
#[must_use = "nothing runs until .build()"]
pub struct Builder {
    options: LoopOptions,
}

impl Sage {
    /// What is wanted of the loop, beginning with the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// The folder of a Hugging Face checkpoint or of an extracted store (`sage extract`).
    pub fn model(mut self, folder: impl AsRef<Path>) -> Self {
        self.options.model = Some(folder.as_ref().to_owned());
        self
    }

    /// The memory limit of the whole process, the host's own memory included: `512MiB`, `6GiB`, `25%` (of everything
    /// resident), `64slots` (experts beyond what must be there), or `none`. Without one there is none where everything of the
    /// model fits; else one is chosen from what the machine and its control groups have left, and said in
    /// [`crate::events::RunMode::limit_reason`]. One above the machine is refused.
    pub fn limit(mut self, size: impl Into<String>) -> Self {
        self.options.limit = Some(size.into());
        self
    }

    /// Tokens of context to reserve memory for: a question with the goal and its answer must fit. Without it 2048, or what
    /// the model was made for.
    pub fn context_tokens(mut self, tokens: usize) -> Self {
        self.options.context_tokens = Some(tokens);
        self
    }

    /// Tokens that one tick reads at most (128): smaller chunks hear an alarm sooner, larger ones read faster.
    pub fn chunk_tokens(mut self, tokens: usize) -> Self {
        self.options.chunk_tokens = Some(tokens);
        self
    }

    /// How keys and values are kept. Without it as they are computed where the limit has room for that, else rounded.
    pub fn kv_precision(mut self, precision: KvPrecision) -> Self {
        self.options.kv_precision = Some(precision);
        self
    }

    /// Tokens of an answer at most (256).
    pub fn answer_tokens(mut self, tokens: usize) -> Self {
        self.options.answer_tokens = Some(tokens);
        self
    }

    /// 0 (the default) always says the most probable token.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.options.temperature = Some(temperature);
        self
    }

    /// Of the sampling. The same seed and observations give the same answers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Chooses the experts as the reference implementation does, whatever the limit; only speed depends on memory then.
    pub fn exact(mut self) -> Self {
        self.options.exact = true;
        self
    }

    /// Runs a store that lacks experts; what the routers lose is counted as denied.
    pub fn degrade(mut self) -> Self {
        self.options.degrade = true;
        self
    }

    /// Hears: memory is planned for the model's audio tower, and [`crate::session::Observation::heard`] can be observed.
    pub fn hears(mut self) -> Self {
        self.options.senses.push(Modality::Audio);
        self
    }

    /// Sees: memory is planned for the model's vision tower, and [`crate::session::Observation::seen`] can be observed.
    pub fn sees(mut self) -> Self {
        self.options.senses.push(Modality::Vision);
        self
    }

    /// Speaks: memory is planned for the model's voice, and every answer is spoken, in pieces
    /// ([`crate::session::Action::Sound`]). A request may name a voice of its own ([`crate::session::Request::voice`]).
    pub fn speaks(self) -> Self {
        self.speaks_as(VoiceChoice::default())
    }

    /// As [`Builder::speaks`], in this voice.
    pub fn speaks_as(mut self, voice: VoiceChoice) -> Self {
        self.options.voice = Some(voice);
        self
    }

    /// Tokens that the sounds (13 a second) and the pictures (1,024 pixels each) of one observation may take. The default is 512.
    pub fn media_tokens(mut self, tokens: usize) -> Self {
        self.options.media_tokens = Some(tokens);
        self
    }

    /// A variable of the chat template, such as `enable_thinking` with `false`; may be said again for another.
    pub fn template_arg(
        mut self,
        key: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.options.template_args.push((key.into(), value.into()));
        self
    }

    /// The layers of settings. The default is `config/default.toml` alone;
    /// [`Sources::of_process`] reads `SAGE_CONFIG` and the environment as the commands do. Call before [`Builder::set`].
    pub fn settings(mut self, sources: Sources) -> Self {
        self.options.settings = sources;
        self
    }

    /// One setting over all files and variables, such as `mind.budgets.wake.f=0.75`; `sage config` lists them.
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.options.settings.set.push(setting.into());
        self
    }

    /// Changes the mind's configuration after all settings.
    pub fn configure(mut self, change: impl FnOnce(&mut MindConfig) + Send + 'static) -> Self {
        self.options.configure.push(Box::new(change));
        self
    }

    /// A trust ledger to go on from, and to keep in what is learned; made if it is not there.
    pub fn ledger(mut self, file: impl AsRef<Path>) -> Self {
        self.options.ledger = Some(file.as_ref().to_owned());
        self
    }

    /// Records every input, decision and token into this file, which must not be there yet; [`replay::verify`] repeats it.
    ///
    /// [`replay::verify`]: crate::replay::verify
    pub fn record(mut self, file: impl AsRef<Path>) -> Self {
        self.options.record = Some(file.as_ref().to_owned());
        self
    }

    /// Records the router logits too, so that the mind can be asked again without the model
    /// ([`replay::ask_again`]).
    ///
    /// [`replay::ask_again`]: crate::replay::ask_again
    pub fn record_logits(mut self) -> Self {
        self.options.record_logits = true;
        self
    }

    /// Control tokens that are spelled out in texts, questions and goals (`<|im_end|>`, `<|image_pad|>`) are such. Without it
    /// they are text like the rest, whoever says it.
    pub fn allow_control_tokens(mut self) -> Self {
        self.options.control_tokens = true;
        self
    }

    /// A standing instruction from the beginning: the first observation, of the source `host`.
    pub fn goal(mut self, text: impl Into<String>) -> Self {
        self.options.goal = Some(text.into());
        self
    }

    /// Something to measure.
    pub fn sensor(mut self, sensor: impl Sensor + 'static) -> Self {
        self.options.sensors.push(Box::new(sensor));
        self
    }

    /// Observes the machine's own sensors too (memory pressure, temperature, battery), every `sensors.every_ticks` ticks.
    pub fn machine_sensors(mut self) -> Self {
        self.options.machine_sensors = true;
        self
    }

    /// A folder with `proc` and `sys` that stands for the machine, where its memory and its sensors are read; else `/`.
    pub fn sysfs(mut self, folder: impl AsRef<Path>) -> Self {
        self.options.sysfs = Some(folder.as_ref().to_owned());
        self
    }

    /// Something to act through.
    pub fn effector(mut self, effector: impl Effector + 'static) -> Self {
        self.options.effectors.push(Box::new(effector));
        self
    }

    /// A function that hears of every action, on the loop's thread.
    pub fn on_action(self, hear: impl FnMut(&Action) + Send + 'static) -> Self {
        self.effector(Listener(hear))
    }

    /// Observations that may wait (256), those that the loop has taken and not read included.
    pub fn inbox(mut self, observations: usize) -> Self {
        self.options.inbox = observations;
        self
    }

    /// Bytes of texts and files that may wait: 4 MiB, or 32 MiB where the loop hears or sees. Memory is planned for the files.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.options.inbox_bytes = Some(bytes);
        self
    }

    /// Events that a telemetry stream holds for a slow reader (4096); those beyond are counted and said in the stream.
    pub fn telemetry_events(mut self, events: usize) -> Self {
        self.options.events = events;
        self
    }

    /// Actions that a stream of actions holds for a slow reader (256). Effectors hear of every action at once.
    pub fn pending_actions(mut self, actions: usize) -> Self {
        self.options.actions = actions;
        self
    }

    /// Free-running: what a tick in which there is nothing to do lasts (100 ms). An observation ends it at once.
    pub fn idle_pace(mut self, pace: Duration) -> Self {
        self.options.pace = pace;
        self
    }

    /// Threads of the arithmetic, for this loop alone. Without it, all cores. The result does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads);
        self
    }

    /// Opens the model and starts the loop's thread; nothing ticks yet. Runs inside any runtime, or none.
    ///
    /// # Errors
    /// When something that was asked for cannot be: the error names it, its value, and what was expected.
    pub async fn build(self) -> Result<Sage, BuildError> {
        let bounds = (self.options.events, self.options.actions);
        let goal = self.options.goal.clone();
        let threads = self.options.checked_threads()?;
        let plan = self.options.checked()?;
        Sage::start(plan, bounds, goal, threads).await
    }
}
