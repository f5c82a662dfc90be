//! The conversation: lines in, answers out.

use std::path::Path;
use std::time::Instant;

use sage_actors::protocol::Tick;

use super::super::speaking::{SpeechFolder, check_speaker};
use super::super::watch::WorkWatch;
use super::super::{CliError, Printer};
use super::command::{ChatCommand, ChatLine, SpeakWish, parse};
use super::input::{ChatInput, InputLine, Interrupts};
use super::reply::{CommandReply, SegmentLine, StateReport, TowerLine, TrustLayer, TurnWork};
use super::show::{PerceptionTally, Show};
use super::why::Move;
use crate::core::core_loop::Observation;
use crate::core::memory::resident_set;
use crate::core::request::VoiceChoice;
use crate::core::speech::SPEAKER;
use crate::core::{Engine, Limit, LimitOrigin, Orientation};
use crate::events::{Event, SalienceEvent};
use crate::input::read_text;
use crate::media::medium::{Medium, MediumKind};
use crate::reads::ReadBytes;
use crate::session::Session;
use crate::text::template::Thinking;

/// Who speaks.
const USER: &str = "user";

/// A conversation that is held.
pub struct Chat<'a> {
    core: Session,
    interrupts: Interrupts,
    show: Show<'a>,
    /// When the last turn began.
    turn_tick: Tick,
    /// What had been read before it.
    read_before: ReadBytes,
    answered: bool,
    /// How answers are spoken; none where the chat began without a voice.
    voice: Option<VoiceChoice>,
    /// Answers are not spoken for now.
    silent: bool,
}

impl<'a> Chat<'a> {
    /// A conversation in a session that has begun one; `thinking` tells thoughts in an answer. With a voice, answers are spoken into
    /// the folder.
    pub fn new(
        core: Session,
        printer: &'a Printer,
        interrupts: Interrupts,
        thinking: Thinking,
        (voice, speech): (Option<VoiceChoice>, SpeechFolder),
    ) -> Self {
        let watch = WorkWatch::start(core.engine().progress(), printer);
        Self {
            core,
            interrupts,
            show: Show {
                watch,
                printer,
                trouble: None,
                file: None,
                answer: thinking.clone(),
                thinking,
                thought: false,
                speech,
            },
            turn_tick: 0,
            read_before: ReadBytes::default(),
            answered: false,
            silent: false,
            voice,
        }
    }

    /// Holds it until the input ends.
    pub async fn hold(&mut self, mut input: ChatInput) -> Result<(), CliError> {
        self.show.event(&self.core.mode_event());
        if input.is_terminal() {
            let printer = self.show.printer;
            printer.aside("/help lists the commands; Ctrl-C breaks an answer off, Ctrl-D ends");
        }
        let mut again = false;
        loop {
            self.show.checked()?;
            self.interrupts.take();
            match input.next(&self.interrupts).await? {
                InputLine::End => return Ok(()),
                InputLine::Interrupted if again => return Ok(()),
                InputLine::Interrupted => {
                    again = true;
                    self.show.printer.note("once more, or Ctrl-D, to end");
                    continue;
                }
                InputLine::Text(line) => match parse(&line) {
                    ChatLine::Nothing => {}
                    ChatLine::Said(text) => self.say(text).await?,
                    ChatLine::Command(ChatCommand::Quit) => return Ok(()),
                    ChatLine::Command(command) => self.obey(command).await?,
                    ChatLine::Refused(message, hint) => {
                        self.show
                            .reply(&CommandReply::refused(message, Some(hint)))?;
                    }
                },
            }
            again = false;
        }
    }

    /// Says what was read in all, and ends the session.
    pub async fn close(self, ended: Result<(), CliError>) -> Result<(), CliError> {
        let read = self.core.engine().read_bytes();
        self.show.printer.aside(format_args!("read {read} in all"));
        match ended {
            Ok(()) => Ok(self.core.close().await?),
            Err(error) => {
                // Of a run that failed the log keeps what was learned.
                self.core.abort().await;
                Err(error)
            }
        }
    }

    /// One turn: the answer, and the time that passes after it.
    async fn say(&mut self, text: &str) -> Result<(), CliError> {
        if let Err(error) = self.core.check_turn(text) {
            let hint = "say less, or begin with a longer --context or a smaller --max-tokens";
            let refused = CommandReply::refused(error, Some(hint.to_owned()));
            return self.show.reply(&refused);
        }
        self.attend(Observation::turn(USER, text)).await
    }

    /// A text that is read into the conversation.
    async fn read(&mut self, file: &Path) -> Result<(), CliError> {
        let text = match read_text(file) {
            Ok(text) if text.trim().is_empty() => {
                let empty = format!("{} is empty", file.display());
                return self.show.reply(&CommandReply::refused(empty, None));
            }
            Ok(text) => text,
            Err(error) => {
                return self.show.reply(&CommandReply::refused(error, None));
            }
        };
        let source = file.display().to_string();
        self.attend(Observation::told(source, text)).await
    }

    /// A sound or a picture. What is said about it stands for itself: it is no turn of the conversation.
    async fn perceive(
        &mut self,
        kind: MediumKind,
        file: &Path,
        question: &str,
    ) -> Result<(), CliError> {
        let medium = match Medium::read(kind, file) {
            Ok(medium) => medium,
            Err(error) => return self.show.reply(&CommandReply::refused(error, None)),
        };
        let observation = Observation::sensed(USER, vec![medium]).asking(question);
        // A sound without a word about it is itself what is said.
        let observation = match kind {
            MediumKind::Sound if question.is_empty() => observation.speaking(),
            _ => observation,
        };
        self.show.file = Some(file.display().to_string());
        let attended = self.attend(observation).await;
        self.show.file = None;
        attended
    }

    /// Until everything is done that the observation asks for, and the time that passes after it.
    async fn attend(&mut self, observation: Observation) -> Result<(), CliError> {
        let Self {
            core,
            interrupts,
            show,
            ..
        } = self;
        self.turn_tick = core.engine().tick();
        self.read_before = core.engine().read_bytes();
        let asks = observation.is_request();
        let observation = match self.voice.clone().filter(|_| !self.silent) {
            Some(voice) => observation.spoken_by(voice),
            None => observation,
        };
        let id = core.submit(observation);
        let started = Instant::now();
        let mut heard = PerceptionTally::default();
        let mut sink = |event: Event| {
            heard.add(&event.kind);
            show.event(&event);
        };
        let mut spoken = Vec::new();
        while !core.is_idle() {
            if interrupts.take() {
                core.cancel(id);
            }
            spoken.extend(core.tick(&mut sink).await?.spoken);
        }
        if !core.take_refused().is_empty() {
            return Ok(());
        }
        for spoken in &spoken {
            show.spoken(spoken);
        }
        self.answered |= asks;
        show.status(core, asks, &heard, started, self.read_before);
        Ok(core.settle(&mut |event| show.event(&event)).await?)
    }

    async fn obey(&mut self, command: ChatCommand) -> Result<(), CliError> {
        let reply = match command {
            ChatCommand::Help => CommandReply::help(),
            ChatCommand::State => self.state().await?,
            ChatCommand::Salience => self.salience().await?,
            ChatCommand::Trust => {
                let view = self.core.engine().mind.snapshot().await.map_err(failed)?;
                CommandReply::Trust {
                    layers: TrustLayer::all(&view),
                }
            }
            ChatCommand::Why => self.why(),
            ChatCommand::Read(file) => return self.read(&file).await,
            ChatCommand::Perceive {
                kind,
                file,
                question,
            } => return self.perceive(kind, &file, &question).await,
            ChatCommand::Limit(Some(limit)) => return self.limit(limit).await,
            ChatCommand::Limit(None) => {
                let engine = self.core.engine();
                let (plan, limit_origin) = (&engine.plan, engine.limit_origin());
                CommandReply::LimitReport {
                    limit_bytes: plan.limit_bytes,
                    limit_chosen: matches!(limit_origin, LimitOrigin::Chosen(_)),
                    limit_reason: limit_origin.reason(),
                    floor_bytes: plan.floor.total(),
                    pool_bytes: plan.pool_bytes,
                    everything_bytes: plan.everything_bytes(),
                    rss_bytes: resident_set().0,
                }
            }
            ChatCommand::Speak(wish) => self.speak(wish),
            ChatCommand::Feedback(value) => self.feedback(value).await?,
            ChatCommand::Reset => {
                let turns = self.core.turns();
                if self.core.is_recorded() {
                    let source = USER.to_owned();
                    self.core.submit(Observation::Forget { source });
                    self.tick().await?;
                } else {
                    self.core.forget();
                }
                CommandReply::Reset { turns }
            }
            ChatCommand::Quit => return Ok(()),
        };
        self.show.reply(&reply)
    }

    /// Whether answers are spoken from now on, and in which voice.
    fn speak(&mut self, wish: SpeakWish) -> CommandReply {
        let Some(voice) = &mut self.voice else {
            let hint = "begin with --speak FOLDER: memory is planned for the voice".to_owned();
            return CommandReply::refused("this chat has no voice", Some(hint));
        };
        if let SpeakWish::As(name) = &wish
            && let Err(unknown) = check_speaker(&*self.core.engine().source, name)
        {
            return CommandReply::refused(unknown, None);
        }
        match wish {
            SpeakWish::Toggle => self.silent = !self.silent,
            SpeakWish::On => self.silent = false,
            SpeakWish::Off => self.silent = true,
            SpeakWish::As(name) => (voice.speaker, self.silent) = (Some(name), false),
        }
        CommandReply::Speak {
            spoken: !self.silent,
            speaker: voice.speaker.clone().unwrap_or_else(|| SPEAKER.to_owned()),
        }
    }

    /// How the mind is oriented; before the first turn one tick passes for it.
    async fn orientation(&mut self) -> Result<Orientation, CliError> {
        if self.core.orientation().is_none() {
            self.tick().await?;
        }
        let orientation = self.core.orientation().cloned();
        orientation.ok_or_else(|| failed(crate::core::EngineError::NoDirective))
    }

    async fn tick(&mut self) -> Result<(), CliError> {
        let show = &mut self.show;
        self.core.tick(&mut |event| show.event(&event)).await?;
        Ok(())
    }

    async fn state(&mut self) -> Result<CommandReply, CliError> {
        let orientation = self.orientation().await?;
        let engine = self.core.engine();
        let stats = engine.mind.cache_stats().await.map_err(failed)?;
        let (directives, directive) = (&orientation.directives, orientation.directive);
        Ok(CommandReply::StateReport(Box::new(StateReport {
            tick: engine.tick(),
            state: directives.state,
            dwell_ticks: engine.tick() - self.core.recall().entered_tick,
            atp: directives.energy.atp,
            compute: directives.energy.compute,
            io: directives.energy.io,
            capacity_units: engine.mind_config.energy.capacity_units,
            level: directives.energy.level,
            drive: directives.drive,
            k: directive.k,
            expert_bytes: directive.expert_bytes,
            miss_bytes_per_token: directive.miss_bytes_per_token,
            lambda: directive.lambda,
            beta: directive.beta,
            lookahead: directive.lookahead,
            resident_experts: stats.resident_experts,
            resident_bytes: stats.resident_bytes,
            limit_bytes: engine.plan.limit_bytes,
            floor_bytes: engine.plan.floor.total(),
            pool_bytes: engine.plan.pool_bytes,
            towers: towers(engine),
            rss_bytes: resident_set().0,
            turns: self.core.turns(),
            context_tokens: self.core.context_tokens(),
            context_capacity: engine.context_tokens(),
        })))
    }

    async fn salience(&mut self) -> Result<CommandReply, CliError> {
        let orientation = self.orientation().await?;
        Ok(CommandReply::SalienceReport {
            now: SalienceEvent::from(&orientation),
            segments: self
                .core
                .recall()
                .segments
                .iter()
                .map(SegmentLine::from)
                .collect(),
        })
    }

    fn why(&self) -> CommandReply {
        let engine = self.core.engine();
        let mind = &engine.mind_config;
        let read_bytes = engine.read_bytes();
        let read = read_bytes.since(self.read_before);
        let recall = self.core.recall();
        let moves = recall.moves.iter();
        let moves = moves.filter(|moved| moved.tick >= self.turn_tick);
        CommandReply::Why {
            moves: moves
                .map(|moved| Move::new(moved, &mind.transitions, mind.energy.capacity_units))
                .collect(),
            turn: TurnWork::of(&recall.work, read),
            read_bytes,
        }
    }

    /// A wish that can be refused; then it is an observation like all others, so that a recording holds it. The event that it makes
    /// is the answer.
    async fn limit(&mut self, limit: Limit) -> Result<(), CliError> {
        match self.core.engine().check_limit(limit) {
            Ok(()) => {
                let source = USER.to_owned();
                self.core.submit(Observation::Limit { source, limit });
                self.tick().await
            }
            Err(error) => {
                let text = error.to_string();
                let (message, hint) = match text.split_once("\n  hint: ") {
                    Some((message, hint)) => (message, Some(hint.replace("--limit ", "/limit "))),
                    None => (text.as_str(), None),
                };
                self.show.reply(&CommandReply::refused(message, hint))
            }
        }
    }

    async fn feedback(&mut self, value: f32) -> Result<CommandReply, CliError> {
        if !self.answered {
            return Ok(CommandReply::refused("nothing has been answered yet", None));
        }
        let before = self.core.engine().mind.snapshot().await.map_err(failed)?;
        self.core.submit(Observation::Feedback(value));
        self.tick().await?;
        let orientation = self.orientation().await?;
        let after = self.core.engine().mind.snapshot().await.map_err(failed)?;
        let pairs = before.layers.values().zip(after.layers.values());
        let moved = pairs.flat_map(|(before, after)| {
            let pairs = before.convergence.iter().zip(&after.convergence);
            pairs.map(|(before, after)| f64::from((after - before).abs()))
        });
        let moved: Vec<f64> = moved.filter(|moved| *moved > 0.0).collect();
        Ok(CommandReply::Feedback {
            value,
            reward: orientation.report.salience.reward,
            experts_moved: moved.len(),
            convergence_moved: moved.iter().sum(),
        })
    }
}

fn failed(error: impl Into<crate::core::EngineError>) -> CliError {
    error.into().into()
}

/// What hears and sees, and how much of it is in memory.
fn towers(engine: &Engine) -> Vec<TowerLine> {
    let senses = engine.towers().senses().into_iter();
    senses
        .map(|modality| {
            let usage = engine.towers().usage(modality);
            TowerLine {
                modality,
                weight_bytes: usage.weight_bytes,
                resident_bytes: usage.resident_bytes,
            }
        })
        .collect()
}
