//! Questions whose answers somebody awaits.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::ports::Action;
use crate::events::Ended;

/// The answer to a question, in words and, where the loop speaks, in sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Number of the question.
    pub id: u64,
    /// The answer.
    pub text: String,
    /// Why it ended.
    pub ended: Ended,
    /// Its sound: 24 000 samples a second, one channel, 16 bits; empty where it is not spoken.
    pub samples: Vec<i16>,
}

/// What whoever awaits is told: the answer, or why there is none.
pub(super) type AnswerResult = Result<Reply, String>;

struct PendingAnswer {
    /// It is spoken: the answer is whole with its last sound.
    spoken: bool,
    reply: Option<Reply>,
    samples: Vec<i16>,
    tell: oneshot::Sender<AnswerResult>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Asks {
    open: BTreeMap<u64, PendingAnswer>,
}

impl Asks {
    /// Somebody awaits the answer to question `id`.
    pub(super) fn open(&mut self, id: u64, spoken: bool) -> oneshot::Receiver<AnswerResult> {
        let (tell, told) = oneshot::channel();
        let asked = PendingAnswer {
            spoken,
            reply: None,
            samples: Vec::new(),
            tell,
        };
        self.open.insert(id, asked);
        told
    }

    /// Nobody awaits it any more.
    pub(super) fn forget(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// The loop acts; whoever awaits an answer that is whole now is told.
    pub(super) fn hear(&mut self, action: &Action) {
        match action {
            Action::Say {
                id, text, ended, ..
            } => {
                let Some(asked) = self.open.get_mut(id) else {
                    return;
                };
                asked.reply = Some(Reply {
                    id: *id,
                    text: text.clone(),
                    ended: *ended,
                    samples: Vec::new(),
                });
                // What was broken off is not spoken.
                if !asked.spoken || !ended.is_whole() {
                    self.tell(*id, None);
                }
            }
            Action::Sound { id, samples, .. } => {
                if let Some(asked) = self.open.get_mut(id) {
                    asked.samples.extend_from_slice(samples);
                }
            }
            Action::Spoken { id, .. } => self.tell(*id, None),
            Action::Unanswered { id, why, .. } => self.tell(*id, Some(why.clone())),
            Action::State { .. } | Action::Missed { .. } => {}
        }
    }

    fn tell(&mut self, id: u64, why: Option<String>) {
        let Some(asked) = self.open.remove(&id) else {
            return;
        };
        let told = match (asked.reply, why) {
            (Some(reply), None) => Ok(Reply {
                samples: asked.samples,
                ..reply
            }),
            (_, why) => Err(why.unwrap_or_default()),
        };
        // Whoever asked may have gone.
        let _ = asked.tell.send(told);
    }

    /// The loop is over: nobody is told anything any more.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }
}
