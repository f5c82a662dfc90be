//! What was said and told in a conversation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::text::Message;

/// Something that stands in the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryContent {
    /// A question and its answer.
    Turn { asked: String, answered: String },
    /// A piece of a text that was read into the conversation.
    Told(String),
}

/// What stands in the conversation, under the number by which the mind remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: u64,
    content: EntryContent,
    /// Whether the mind hears of it.
    remembered: bool,
}

/// What was said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct ConversationTurns {
    pub(super) system: Option<String>,
    /// The host's standing instruction.
    goal: Option<String>,
    /// In the context, in its order.
    entries: VecDeque<Entry>,
    /// Remembered, and not in the context.
    archive: BTreeMap<u64, EntryContent>,
    next_id: u64,
}

impl ConversationTurns {
    /// Nothing was said; the goal of another one stays in force.
    pub(super) fn begin(&mut self, system: Option<String>) {
        *self = Self {
            system,
            goal: self.goal.take(),
            next_id: self.next_id,
            ..Self::default()
        };
    }

    /// Adds to it; returns the number under which it stands.
    pub(super) fn add(&mut self, content: EntryContent, remembered: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push_back(Entry {
            id,
            content,
            remembered,
        });
        id
    }

    /// Whether anything was ever in it.
    pub(super) fn was_used(&self) -> bool {
        self.next_id > 0
    }

    /// The standing instruction, if there is one.
    pub(super) fn goal(&self) -> Option<&str> {
        self.goal.as_deref()
    }

    /// Puts another instruction in force; returns the one before.
    pub(super) fn set_goal(&mut self, goal: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.goal, goal)
    }

    /// What stands in it: turns, and pieces of texts.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Turns in it.
    pub(super) fn turns(&self) -> usize {
        let is_turn = |entry: &&Entry| matches!(entry.content, EntryContent::Turn { .. });
        self.entries.iter().filter(is_turn).count()
    }

    /// Takes the oldest out of the context for good.
    pub(super) fn drop_oldest(&mut self, entries: usize) {
        self.entries.drain(..entries.min(self.entries.len()));
    }

    /// Takes everything out of the context but `stay`, and the newer half of what the mind has not heard of. Of what goes, that
    /// which it has heard of is kept.
    pub(super) fn condense(&mut self, stay: &[u64]) {
        let stay: BTreeSet<u64> = stay.iter().copied().collect();
        let mut unheard = self
            .entries
            .iter()
            .filter(|entry| !entry.remembered)
            .count();
        let newest = unheard / 2;
        let stays = |entry: &Entry| match entry.remembered {
            true => stay.contains(&entry.id),
            false => {
                unheard -= 1;
                unheard < newest
            }
        };
        let (kept, gone): (VecDeque<Entry>, VecDeque<Entry>) =
            self.entries.drain(..).partition(stays);
        self.entries = kept;
        let gone = gone.into_iter().filter(|entry| entry.remembered);
        let gone = gone.map(|entry| (entry.id, entry.content));
        self.archive.extend(gone);
    }

    /// Puts what is remembered back behind everything else in the context, a turn as a text; returns how many there were.
    pub(super) fn bring_back(&mut self, ids: &[u64]) -> usize {
        let before = self.entries.len();
        for id in ids {
            if let Some(content) = self.archive.remove(id) {
                let content = match content {
                    EntryContent::Turn { asked, answered } => {
                        EntryContent::Told(format!("{asked}\n{answered}\n"))
                    }
                    told @ EntryContent::Told(_) => told,
                };
                self.entries.push_back(Entry {
                    id: *id,
                    content,
                    remembered: true,
                });
            }
        }
        self.entries.len() - before
    }

    /// These are not remembered any more.
    pub(super) fn forget(&mut self, ids: &[u64]) {
        for id in ids {
            self.archive.remove(id);
        }
    }

    /// The messages up to `text`; of what stands there only that from `first` on. What was told stands at the head of the
    /// question that comes next, behind the `places` of its sounds. A goal stands in place of the conversation's own system
    /// message.
    pub(super) fn messages(&self, first: usize, places: &str, text: &str) -> Vec<Message> {
        let message = |role: &'static str, content: &str| Message::new(role, content);
        let system = self.goal().or(self.system.as_deref());
        let mut messages: Vec<Message> = (system.into_iter())
            .map(|text| message("system", text))
            .collect();
        let mut told = String::new();
        for entry in self.entries.iter().skip(first) {
            match &entry.content {
                EntryContent::Told(text) => told.push_str(text),
                EntryContent::Turn { asked, answered } => {
                    messages.push(message("user", &format!("{told}{asked}")));
                    messages.push(message("assistant", answered));
                    told.clear();
                }
            }
        }
        messages.push(message("user", &format!("{places}{told}{text}")));
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> EntryContent {
        EntryContent::Told(text.to_owned())
    }

    fn turn(asked: &str, answered: &str) -> EntryContent {
        EntryContent::Turn {
            asked: asked.to_owned(),
            answered: answered.to_owned(),
        }
    }

    fn users(conversation: &ConversationTurns, text: &str) -> Vec<String> {
        let messages = conversation.messages(0, "", text);
        let content = messages.iter().map(Message::text);
        content.collect()
    }

    #[test]
    fn what_was_told_stands_before_the_next_question() {
        let mut all = ConversationTurns::default();
        all.add(told("One. "), true);
        all.add(told("Two.\n"), true);
        all.add(turn("which?", "both"), true);
        all.add(told("Three.\n"), true);
        assert_eq!(
            users(&all, "and?"),
            ["One. Two.\nwhich?", "both", "Three.\nand?"]
        );
        assert_eq!((all.len(), all.turns()), (4, 1));
        // What leaves the context comes back behind the rest, unless it was forgotten.
        all.condense(&[2, 3]);
        assert_eq!(users(&all, "and?"), ["which?", "both", "Three.\nand?"]);
        all.forget(&[1]);
        assert_eq!(all.bring_back(&[0, 1]), 1);
        assert_eq!(users(&all, "and?"), ["which?", "both", "Three.\nOne. and?"]);
        // What the mind has not heard of is not kept.
        let unheard = all.add(told("Five. "), false);
        all.condense(&[]);
        assert_eq!(all.len(), 0);
        assert_eq!(all.bring_back(&[unheard, 2, 3]), 2);
        assert_eq!(users(&all, "and?"), ["which?\nboth\nThree.\nand?"]);
        for _ in 0..5 {
            all.add(told("Unheard. "), false);
        }
        all.condense(&[3]);
        assert_eq!(users(&all, ""), ["Three.\nUnheard. Unheard. "]);
        // A new conversation numbers on.
        all.begin(None);
        assert_eq!(all.add(told("Six. "), true), 10);
    }
}
