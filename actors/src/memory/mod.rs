//! What is remembered of what was read: segments, a score each, and which of them are in the context.
//!
//! Three decisions. A store of limited bytes keeps the segments of the highest score. When the context is full, the newest
//! segments stay, then those of the highest score, within a budget of tokens. A question brings back segments that share
//! rare tokens with it: the sum over shared tokens of ln(segments / segments that have the token), over the square root of
//! the segment's distinct tokens. (The mean hidden states, by which novelty is measured, were tried for this: of about a
//! hundred sentences the right one was among the best four for a fifth to a half of the questions, and for nearly all by
//! shared tokens.)
//!
//! The score of salience is the weighted mean of the five numbers, measured as [`crate::snarc`] measures them, against the
//! segments before.

pub mod actor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{MemoryConfig, Retention, SalienceConfig};
use crate::protocol::{Condense, Observe, Recall, Remember, Remembered, Salience};
use crate::snarc::Assessor;

/// A segment that is kept.
#[derive(Clone, Debug)]
struct Held {
    tokens: u32,
    bytes: u64,
    /// Distinct token ids, ascending.
    words: Vec<u32>,
    score: f32,
    /// Where it stands in the context, the newest at the greatest place; none: it is not in it.
    place: Option<u64>,
}

/// The memory.
#[derive(Clone, Debug)]
pub struct Memory {
    config: MemoryConfig,
    assessor: Assessor,
    salience: SalienceConfig,
    held: BTreeMap<u64, Held>,
    /// In how many of the segments so far each token was.
    seen_in: BTreeMap<u32, u32>,
    segments: u32,
    /// Places that were given.
    places: u64,
    /// Of all that is kept.
    bytes: u64,
    /// The segment that was remembered last, and its reward.
    last: Option<(u64, f32)>,
}

impl Memory {
    /// Nothing is remembered.
    pub fn new(config: MemoryConfig, salience: SalienceConfig) -> Self {
        Self {
            config,
            assessor: Assessor::of(salience),
            salience,
            held: BTreeMap::new(),
            seen_in: BTreeMap::new(),
            segments: 0,
            places: 0,
            bytes: 0,
            last: None,
        }
    }

    /// Goes on with other numbers; what is kept stays, under its score.
    pub fn reconfigure(&mut self, config: MemoryConfig, salience: SalienceConfig) {
        (self.config, self.salience) = (config, salience);
        self.assessor.reconfigure(salience);
    }

    /// Measures a segment that was read into the context, and keeps it. Where the store is full, those of the lowest score
    /// that are not in the context are forgotten.
    pub fn remember(&mut self, message: &Remember) -> Remembered {
        if let Some(feedback) = message.feedback {
            self.reward(feedback);
        }
        let observe = Observe {
            ticks: 1,
            events_in: 1,
            tokens_in: message.tokens.len() as u32,
            urgency: message.urgency,
            segment: Some(message.segment.clone()),
            ..Observe::default()
        };
        let salience = self.assessor.step(&observe).salience;
        let words: BTreeSet<u32> = message.tokens.iter().copied().collect();
        for word in &words {
            *self.seen_in.entry(*word).or_default() += 1;
        }
        self.segments += 1;
        self.places += 1;
        let held = Held {
            // Nothing that stands in the context is without weight.
            tokens: (message.tokens.len() as u32).max(1),
            bytes: message.bytes,
            words: words.into_iter().collect(),
            score: self.score(message.id, &salience),
            place: Some(self.places),
        };
        self.bytes += held.bytes;
        self.last = Some((message.id, salience.reward));
        self.held.insert(message.id, held);
        Remembered {
            salience,
            forgotten: self.make_room(),
        }
    }

    /// Feedback on what was remembered last: its reward is another one now, and what resembles it later will be expected to
    /// earn the like.
    fn reward(&mut self, feedback: f32) {
        let observe = Observe {
            ticks: 1,
            feedback: Some(feedback),
            ..Observe::default()
        };
        let reward = self.assessor.step(&observe).salience.reward;
        let Some((id, before)) = self.last else {
            return;
        };
        self.last = Some((id, reward));
        if let Some(held) = self.held.get_mut(&id)
            && self.config.retention == Retention::Salience
        {
            held.score += self.config.weights[3] * (reward - before);
        }
    }

    /// By what a segment is kept: the greater stays.
    fn score(&self, id: u64, salience: &Salience) -> f32 {
        let Salience {
            surprise,
            novelty,
            arousal,
            reward,
            conflict,
        } = *salience;
        match self.config.retention {
            Retention::Salience => {
                let numbers = [surprise, novelty, arousal, reward, conflict];
                let weighted = numbers.iter().zip(&self.config.weights);
                weighted.fold(0.0, |sum, (number, weight)| sum + number * weight)
            }
            // Equal scores leave the newest.
            Retention::Recency | Retention::Off => 0.0,
            Retention::Uniform => (mixed(id) >> 40) as f32,
        }
    }

    /// Forgets what has no room in the store; of equal scores the oldest first.
    fn make_room(&mut self) -> Vec<u64> {
        let mut forgotten = Vec::new();
        while self.bytes > self.config.store_bytes {
            let outside = self.held.iter().filter(|(_, held)| held.place.is_none());
            let least = outside.min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
            let Some((id, _)) = least else { break };
            let id = *id;
            if let Some(held) = self.held.remove(&id) {
                self.bytes -= held.bytes;
            }
            forgotten.push(id);
        }
        forgotten
    }

    /// The segments that stay in the context, ascending: the newest within `recent_tokens`, then by score within `tokens`.
    pub fn condense(&mut self, message: &Condense) -> Vec<u64> {
        let mut left = message.tokens;
        let mut recent = message.recent_tokens.min(message.tokens);
        let mut stay = BTreeSet::new();
        let inside =
            |(id, held): (&u64, &Held)| Some((held.place?, (*id, held.tokens, held.score)));
        // By place, the newest last.
        let others: BTreeMap<u64, (u64, u32, f32)> = self.held.iter().filter_map(inside).collect();
        let mut others: Vec<(u64, u32, f32)> = others.into_values().collect();
        while let Some((id, tokens, _)) = others.last().copied() {
            if tokens > recent {
                break;
            }
            (recent, left) = (recent - tokens, left - tokens);
            stay.insert(id);
            others.pop();
        }
        // Of equal scores the newest first.
        others.reverse();
        others.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
        for (id, tokens, _) in others {
            if tokens <= left {
                left -= tokens;
                stay.insert(id);
            }
        }
        for (id, held) in &mut self.held {
            held.place = held.place.filter(|_| stay.contains(id));
        }
        stay.into_iter().collect()
    }

    /// The segments outside of the context that resemble a question, ascending; from now on they are in it. Those with less
    /// than half of the best one's likeness stay where they are.
    pub fn recall(&mut self, message: &Recall) -> Vec<u64> {
        let asked: BTreeSet<u32> = message.question.iter().copied().collect();
        let outside = self.held.iter().filter(|(_, held)| held.place.is_none());
        let mut alike: Vec<(u64, u32, f32)> = outside
            .map(|(id, held)| (*id, held.tokens, self.likeness(&asked, held)))
            .filter(|(_, _, likeness)| *likeness > 0.0)
            .collect();
        alike.reverse();
        alike.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
        let enough = alike.first().map_or(0.0, |(_, _, best)| best / 2.0);
        let mut left = message.tokens;
        let mut back = BTreeSet::new();
        for (id, tokens, likeness) in alike {
            if likeness >= enough && tokens <= left {
                left -= tokens;
                back.insert(id);
            }
        }
        for id in &back {
            if let Some(held) = self.held.get_mut(id) {
                self.places += 1;
                held.place = Some(self.places);
            }
        }
        back.into_iter().collect()
    }

    fn likeness(&self, asked: &BTreeSet<u32>, held: &Held) -> f32 {
        let shared = held.words.iter().filter(|word| asked.contains(word));
        let rarity = |word: &u32| {
            let seen_in = self.seen_in.get(word).copied().unwrap_or(1).max(1);
            libm::logf(self.segments as f32 / seen_in as f32)
        };
        let sum = shared.fold(0.0, |sum, word| sum + rarity(word));
        sum / libm::sqrtf(held.words.len().max(1) as f32)
    }

    /// Everything that was said is forgotten.
    pub fn clear(&mut self) {
        *self = Self::new(self.config, self.salience);
    }
}

/// A hash of a number (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
