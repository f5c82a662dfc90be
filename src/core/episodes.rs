//! Recorded episodes: the tokens of finished segments and who worked on them, until Dream has consolidated them.

use std::collections::{BTreeMap, VecDeque};

use sage_actors::protocol::{ExpertUse, Habit, Module, State};

use super::step_result::Forward;
use crate::checkpoint::config::TextConfig;

/// Episodes kept; of more, the oldest is forgotten.
pub const EPISODES: usize = 64;

/// Tokens of an episode that are kept for scoring; its routing is counted to the end.
const EPISODE_TOKENS: usize = 512;

/// Memory of all episodes that are kept, and of the habits that the mind makes of them.
pub fn bytes(config: &TextConfig) -> u64 {
    let experts = config.sparse_layers().count() * config.num_experts;
    let episode = EPISODE_TOKENS * size_of::<u32>() + experts * size_of::<ExpertUse>();
    let habits = sage_actors::cache::habits::LISTS * experts * size_of::<f64>();
    (EPISODES * episode + habits) as u64
}

/// Counts who works.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    counts: BTreeMap<(u16, u16), u32>,
    tokens: u32,
}

impl Uses {
    /// Adds a step of `tokens` tokens.
    pub fn add(&mut self, forward: &Forward, tokens: usize) {
        for used in &forward.work.used {
            *self.counts.entry((used.layer, used.expert)).or_default() += used.tokens;
        }
        self.tokens += tokens as u32;
    }

    /// Nothing is counted any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn list(&self) -> Vec<ExpertUse> {
        let used = |((layer, expert), tokens): (&(u16, u16), &u32)| ExpertUse {
            layer: *layer,
            expert: *expert,
            tokens: *tokens,
        };
        self.counts.iter().map(used).collect()
    }
}

#[derive(Debug)]
pub struct Episode {
    /// Counts the episodes.
    pub number: u64,
    habit: Habit,
    /// Pieces that are not scored yet; none of the model's own words, which it cannot be wrong about.
    pieces: VecDeque<Vec<u32>>,
}

impl Episode {
    /// Whether every piece is scored.
    pub fn is_scored(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// The episodes that wait for Dream, oldest first.
#[derive(Debug)]
pub struct Episodes {
    waiting: VecDeque<Episode>,
    recorded: u64,
    /// Forgotten before they were consolidated, and not yet told.
    forgotten: u32,
    piece_tokens: usize,
}

impl Episodes {
    /// None; longer ones will be scored in pieces of at most so many tokens.
    pub fn new(piece_tokens: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            recorded: 0,
            forgotten: 0,
            piece_tokens: piece_tokens.max(2),
        }
    }

    /// Records a finished segment; `tokens` are those to be scored.
    pub fn record(&mut self, domain: &str, state: State, tokens: &[u32], uses: &Uses) {
        if self.waiting.len() == EPISODES {
            self.waiting.pop_front();
            self.forgotten += 1;
        }
        let kept = &tokens[..tokens.len().min(EPISODE_TOKENS)];
        let pieces = kept.chunks(self.piece_tokens);
        self.waiting.push_back(Episode {
            number: self.recorded,
            habit: Habit {
                module: Module::Thinker,
                state,
                domain: domain.to_owned(),
                tokens: uses.tokens,
                uses: uses.list(),
            },
            // A single token says nothing of a prediction.
            pieces: pieces
                .filter(|piece| piece.len() > 1)
                .map(<[u32]>::to_vec)
                .collect(),
        });
        self.recorded += 1;
    }

    /// Episodes that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The oldest piece that is not scored, and whose it is.
    pub fn next_piece(&self) -> Option<(u64, &[u32])> {
        let mut pieces = self.waiting.iter().filter_map(|episode| {
            let piece = episode.pieces.front()?;
            Some((episode.number, piece.as_slice()))
        });
        pieces.next()
    }

    /// The oldest piece of an episode is scored; one that was forgotten meanwhile is nobody's.
    pub fn piece_scored(&mut self, number: u64) {
        let mut waiting = self.waiting.iter_mut();
        if let Some(episode) = waiting.find(|episode| episode.number == number) {
            episode.pieces.pop_front();
        }
    }

    /// Gives up scoring those that wait; how many had something left to score.
    pub fn pass_over(&mut self) -> u32 {
        let mut passed = 0;
        for episode in &mut self.waiting {
            passed += u32::from(!episode.is_scored());
            episode.pieces.clear();
        }
        passed
    }

    /// Takes the oldest episode, if it is scored.
    pub fn take_scored(&mut self) -> Option<Habit> {
        self.waiting.front().filter(|episode| episode.is_scored())?;
        self.waiting.pop_front().map(|episode| episode.habit)
    }

    /// Episodes that were forgotten since the last question.
    pub fn take_forgotten(&mut self) -> u32 {
        std::mem::take(&mut self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_taken_when_its_pieces_are_scored() {
        let mut episodes = Episodes::new(4);
        let uses = Uses {
            counts: [((0, 3), 5)].into(),
            tokens: 9,
        };
        episodes.record("book", State::Wake, &[1, 2, 3, 4, 5, 6, 7, 8, 9], &uses);
        episodes.record("own", State::Wake, &[], &uses);
        assert_eq!(episodes.next_piece(), Some((0, &[1, 2, 3, 4][..])));
        assert!(episodes.take_scored().is_none());
        episodes.piece_scored(0);
        assert_eq!(episodes.next_piece(), Some((0, &[5, 6, 7, 8][..])));
        episodes.piece_scored(0);
        // The last token alone is no piece.
        let habit = episodes.take_scored().unwrap();
        assert_eq!((habit.domain.as_str(), habit.tokens), ("book", 9));
        assert_eq!(habit.uses.len(), 1);
        // Nothing is to be scored of the model's own words.
        assert!(episodes.take_scored().is_some() && episodes.is_empty());
    }

    #[test]
    fn what_is_passed_over_is_taken_unscored() {
        let mut episodes = Episodes::new(4);
        episodes.record("book", State::Wake, &[1, 2, 3], &Uses::default());
        episodes.record("own", State::Wake, &[], &Uses::default());
        assert_eq!((episodes.pass_over(), episodes.pass_over()), (1, 0));
        assert!(episodes.take_scored().is_some() && episodes.take_scored().is_some());
    }

    #[test]
    fn the_oldest_is_forgotten_and_counted() {
        let mut episodes = Episodes::new(4);
        for _ in 0..EPISODES + 3 {
            episodes.record("book", State::Wake, &[1, 2], &Uses::default());
        }
        assert_eq!((episodes.len(), episodes.take_forgotten()), (EPISODES, 3));
        assert_eq!(episodes.take_forgotten(), 0);
        episodes.piece_scored(0);
        assert_eq!(episodes.next_piece(), Some((3, &[1, 2][..])));
    }
}
