//! What the loop says of itself, on its way to those who listen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::inbox::Note;
use super::ports::Action;
use super::shared::Shared;
use crate::core::core_loop::{Answer, Completed};
use crate::events::Ended;
use crate::events::{Event, EventKind, ShedReason};
use crate::media::wav::pcm;

/// Hears of every event, passes it on, and keeps the actions of a tick.
pub(super) struct Hearing {
    shared: Arc<Shared>,
    actions: Vec<Action>,
    /// Ends of speech in this tick: they are told behind its answers.
    spoken: Vec<Action>,
    /// Requests that were given to the loop and are not done, and whether they are spoken; as many as it holds.
    requests: BTreeMap<u64, bool>,
    /// The last answer's question.
    pub(super) answered: Option<u64>,
    /// Whether the tick did anything but pass.
    pub(super) worked: bool,
}

impl Hearing {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            actions: Vec::new(),
            spoken: Vec::new(),
            requests: BTreeMap::new(),
            answered: None,
            worked: false,
        }
    }

    /// A request is given to the loop.
    pub(super) fn expect(&mut self, id: u64, spoken: bool) {
        self.requests.insert(id, spoken);
    }

    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn hear(&mut self, event: Event) {
        event.emit();
        let tick = event.tick;
        match &event.kind {
            EventKind::State { from, to, cause } => self.act(Action::State {
                tick,
                from: *from,
                to: *to,
                cause: *cause,
            }),
            EventKind::Refused {
                id, source, reason, ..
            } => {
                self.shared.inbox().refused();
                if self.requests.remove(id).is_some() {
                    self.act(Action::Unanswered {
                        tick,
                        id: *id,
                        source: source.clone(),
                        why: reason.clone(),
                    });
                }
            }
            EventKind::Audio(audio) => {
                self.worked = true;
                self.act(Action::Sound {
                    tick,
                    id: audio.request,
                    samples: audio.pcm.iter().map(|sample| pcm(*sample)).collect(),
                });
            }
            EventKind::Spoken(spoken) => self.spoken.push(Action::Spoken {
                tick,
                id: spoken.request,
                samples: spoken.samples,
                ended: spoken.ended,
            }),
            EventKind::Cache(_) | EventKind::Answer { .. } => self.worked = true,
            _ => {}
        }
        self.shared.events.publish(&event);
    }

    /// What was completed in a tick.
    pub(super) fn complete(&mut self, tick: u64, completed: Completed) {
        for answer in completed.answers {
            self.answer(tick, answer);
        }
        for spoken in std::mem::take(&mut self.spoken) {
            if let Action::Spoken { id, .. } = &spoken {
                self.requests.remove(id);
            }
            self.act(spoken);
        }
    }

    fn answer(&mut self, tick: u64, answer: Answer) {
        // One that is spoken is open until then; what was broken off is not spoken.
        if self.requests.get(&answer.id) == Some(&false) || !answer.ended.is_whole() {
            self.requests.remove(&answer.id);
        }
        let (id, source) = (answer.id, answer.source);
        if answer.ended == Ended::Interrupted && answer.text.is_empty() {
            self.act(Action::Unanswered {
                tick,
                id,
                source,
                why: "it was cancelled, or the loop ended, before it was answered".to_owned(),
            });
            return;
        }
        self.answered = Some(id);
        self.act(Action::Say {
            tick,
            id,
            source,
            question: answer.question,
            text: answer.text,
            ended: answer.ended,
        });
    }

    /// Tells what was shed since the tick before; `record` hears of it first.
    pub(super) fn tell_shed(&mut self, tick: u64, record: &mut dyn FnMut(&Event)) {
        let (notes, unnoted) = self.shared.inbox().take_notes();
        for note in notes {
            let Note {
                id,
                kind,
                source,
                urgency,
                reason,
                is_request,
                is_read,
            } = note;
            // Who was told at the door needs no action that says so again.
            let at_the_door = matches!(reason, ShedReason::Full | ShedReason::Bytes);
            if is_request && !at_the_door {
                let why = match reason {
                    ShedReason::Shutdown => "the loop ended before it was read",
                    ShedReason::Cancelled => "it was cancelled before it was read",
                    _ => "something that matters more took its place",
                };
                self.act(Action::Unanswered {
                    tick,
                    id,
                    source: source.clone(),
                    why: why.to_owned(),
                });
            }
            let kind = EventKind::Shed {
                id,
                request: is_read.then_some(id),
                kind,
                source,
                urgency,
                reason,
            };
            let event = Event { tick, kind };
            record(&event);
            self.hear(event);
        }
        if unnoted > 0 {
            let kind = EventKind::Missed { events: unnoted };
            let event = Event { tick, kind };
            record(&event);
            self.hear(event);
        }
    }

    fn act(&mut self, action: Action) {
        self.shared.actions.publish(&action);
        self.shared.asks().hear(&action);
        self.actions.push(action);
    }
}
