//! What was said in a conversation.

use std::collections::VecDeque;

use crate::text::Message;

/// What was said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct ConversationTurns {
    pub(super) system: Option<String>,
    /// The host's standing instruction.
    pub(super) goal: Option<String>,
    /// Questions and answers.
    pub(super) turns: VecDeque<(String, String)>,
}

impl ConversationTurns {
    pub(super) fn add(&mut self, question: &str, answer: &str) {
        self.turns
            .push_back((question.to_owned(), answer.to_owned()));
    }

    /// The standing instruction, if there is one.
    pub(super) fn goal(&self) -> Option<&str> {
        self.goal.as_deref()
    }

    /// Puts another instruction in force; returns the one before.
    pub(super) fn set_goal(&mut self, goal: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.goal, goal)
    }

    /// Turns in it.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The messages up to `text`; of the turns only those from `first` on. A goal stands in place of the conversation's own
    /// system message.
    pub(super) fn messages(&self, first: usize, text: &str) -> Vec<Message> {
        let message = |role: &'static str, content: &str| Message::new(role, content);
        let system = self.goal().or(self.system.as_deref());
        let system = system.into_iter().map(|text| message("system", text));
        let turns =
            self.turns.iter().skip(first).flat_map(|(asked, answered)| {
                [message("user", asked), message("assistant", answered)]
            });
        let last = message("user", text);
        system.chain(turns).chain([last]).collect()
    }
}
