//! What is wanted of a loop, and whether it can be.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use sage_actors::config::{MindConfig, RoutingPolicy};
use sage_actors::protocol::Modality;

use super::driver::{DriverPlan, Polled};
use super::error::BuildError;
use super::exact::resolve_mind;
use super::inbox::Bound;
use super::open::RecordingPlan;
use super::ports::{Effector, Sensor};
use crate::core::MOST_THREADS;
use crate::core::request::VoiceChoice;
use crate::core::speech::MOST_CODES;
use crate::input::{KvPrecision, Limit};
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

/// What is wanted of a loop.
pub(super) struct LoopOptions {
    pub(super) model: Option<PathBuf>,
    pub(super) limit: Option<String>,
    pub(super) context_tokens: Option<usize>,
    pub(super) chunk_tokens: Option<usize>,
    pub(super) kv_precision: Option<KvPrecision>,
    pub(super) answer_tokens: Option<usize>,
    pub(super) temperature: Option<f32>,
    pub(super) seed: Option<u64>,
    pub(super) exact: bool,
    pub(super) degrade: bool,
    pub(super) senses: Vec<Modality>,
    pub(super) media_tokens: Option<usize>,
    pub(super) voice: Option<VoiceChoice>,
    pub(super) template_args: Vec<(String, serde_json::Value)>,
    pub(super) settings: Sources,
    pub(super) configure: Vec<Change>,
    pub(super) ledger: Option<PathBuf>,
    pub(super) record: Option<PathBuf>,
    pub(super) record_logits: bool,
    pub(super) control_tokens: bool,
    pub(super) goal: Option<String>,
    pub(super) sensors: Vec<Box<dyn Sensor>>,
    pub(super) machine_sensors: bool,
    pub(super) sysfs: Option<PathBuf>,
    pub(super) effectors: Vec<Box<dyn Effector>>,
    pub(super) inbox: usize,
    pub(super) inbox_bytes: Option<usize>,
    pub(super) events: usize,
    pub(super) actions: usize,
    pub(super) pace: Duration,
    pub(super) threads: Option<usize>,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            model: None,
            limit: None,
            context_tokens: None,
            chunk_tokens: None,
            kv_precision: None,
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

impl LoopOptions {
    pub(super) fn checked_threads(&self) -> Result<Option<NonZeroUsize>, BuildError> {
        let Some(threads) = self.threads else {
            return Ok(None);
        };
        within("threads", threads, 1..=MOST_THREADS, "1 to 1024")?;
        Ok(NonZeroUsize::new(threads))
    }

    pub(super) fn checked(mut self) -> Result<DriverPlan, BuildError> {
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
        Ok(DriverPlan {
            model,
            engine: EngineOptions {
                chunk_tokens: settings.session.chunk_tokens,
                kv: settings.session.kv_precision,
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
        if let Some(codes) = self.voice.as_ref().and_then(|voice| voice.max_codes) {
            within(
                "speaks_as: max_codes",
                codes,
                2..=MOST_CODES,
                "2 to 1048576: the last one is no sound",
            )?;
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
        self.settings
            .program(keys::KV_PRECISION, "kv_precision", self.kv_precision);
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
