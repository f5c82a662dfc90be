//! Salience of sounds and pictures, each modality by itself.
//!
//! It comes twice. As a stimulus arrives, before the model has perceived it: arousal is how much stronger it is than the
//! stimuli before it, surprise how far its character lies from what was expected (a moving average, as of a sensor's
//! reading). And once the model has perceived it: surprise is the larger of that and how far the hidden states of its tokens
//! stray from their course, novelty and conflict are as for words, among the segments of the same modality. A sound has no
//! loss: nothing predicts its tokens.
//!
//! With two modalities in one segment, conflict is also how far apart the experts are that were chosen for them: the robust z of the
//! total variation between their histograms, of the two that lie farthest apart.

use std::collections::BTreeMap;

use super::course::Course;
use super::episodes::Episodes;
use super::scales::{EPISODES_MIN, FLOOR_SHARE, SENSOR_RATE, mean, surprise, unit};
use crate::math::Baseline;
use crate::protocol::{
    ModalSalience, Modality, Perceived, Pruned, Salience, Segment, Senses, Stimulus,
};

/// What is known of one modality.
#[derive(Clone, Debug, Default)]
struct Sense {
    levels: Baseline,
    /// Moving average of characters; none before the first.
    expected: Option<Vec<f32>>,
    /// Mean absolute difference of every character from what was expected.
    errors: Baseline,
    course: Course,
    novelty: Baseline,
    conflict: Baseline,
    episodes: Episodes,
    /// Five numbers that its tokens carry: of the last segment, or as far as known of the one that arrived since.
    carried: Salience,
}

/// All senses of which something was perceived.
#[derive(Clone, Debug, Default)]
pub(super) struct Perception {
    senses: BTreeMap<Modality, Sense>,
    /// Total variations between the experts of two modalities in one segment.
    apart: Baseline,
    /// Five numbers of the last segment's words.
    words: Salience,
}

/// What a step brought, by modality.
#[derive(Clone, Debug, Default)]
pub(super) struct ModalitySalience {
    now: BTreeMap<Modality, Salience>,
    /// Conflict between modalities.
    pub(super) apart: f32,
}

impl ModalitySalience {
    /// Raises each of the numbers to the greatest that some modality has.
    pub fn raise(&self, salience: &mut Salience) {
        for one in self.now.values() {
            salience.surprise = salience.surprise.max(one.surprise);
            salience.novelty = salience.novelty.max(one.novelty);
            salience.arousal = salience.arousal.max(one.arousal);
            salience.conflict = salience.conflict.max(one.conflict);
        }
        salience.conflict = salience.conflict.max(self.apart);
    }
}

impl Perception {
    /// Takes in what was perceived and what arrived.
    pub fn step(&mut self, stimuli: &[Stimulus], segment: Option<&Segment>) -> ModalitySalience {
        let mut felt = ModalitySalience::default();
        if let Some(segment) = segment.filter(|segment| !segment.perceived.is_empty()) {
            felt.apart = self.apart(segment);
            for part in &segment.perceived {
                let sense = self.senses.entry(part.modality).or_default();
                let mut salience = sense.perceive(part);
                salience.conflict = salience.conflict.max(felt.apart);
                sense.carried = salience;
                felt.now.insert(part.modality, salience);
            }
        }
        for stimulus in stimuli {
            let sense = self.senses.entry(stimulus.modality).or_default();
            let (surprise, arousal) = sense.feel(stimulus);
            sense.carried.surprise = surprise;
            sense.carried.arousal = arousal;
            let now = felt.now.entry(stimulus.modality).or_default();
            now.surprise = now.surprise.max(surprise);
            now.arousal = now.arousal.max(arousal);
        }
        felt
    }

    /// Remembers what the words of the segment came to.
    pub fn heard_words(&mut self, words: Salience) {
        self.words = words;
    }

    /// Feedback on the turn.
    pub fn mark(&mut self, outcome: f32) {
        for sense in self.senses.values_mut() {
            sense.episodes.mark(outcome);
        }
    }

    /// Merges episodes that are nearly alike, adding to `sum`.
    pub fn prune(&mut self, sum: &mut Pruned) {
        for sense in self.senses.values_mut() {
            let pruned = sense.episodes.prune();
            sum.merged += pruned.merged;
            sum.kept += pruned.kept;
        }
    }

    /// The report: `words` and `token` are this step's five numbers of the words and the last token's own surprise. None while nothing but
    /// words was ever perceived.
    pub fn report(&self, felt: &ModalitySalience, words: Salience, token: f32) -> Option<Senses> {
        if self.senses.is_empty() {
            return None;
        }
        let reward = words.reward;
        let carrying = |salience: Salience, carried: Salience| ModalSalience {
            salience: Salience { reward, ..salience },
            salience_t: mean(&Salience { reward, ..carried }),
            surprise_t: carried.surprise,
        };
        let of = |modality| {
            let sense = self.senses.get(&modality)?;
            let now = felt.now.get(&modality).copied().unwrap_or_default();
            Some(carrying(now, sense.carried))
        };
        let raised = Salience {
            surprise: self.words.surprise.max(token),
            ..self.words
        };
        Some(Senses {
            text: carrying(words, raised),
            audio: of(Modality::Audio),
            vision: of(Modality::Vision),
        })
    }

    /// How unusually far apart the experts of two modalities are.
    fn apart(&mut self, segment: &Segment) -> f32 {
        let parts = segment.perceived.iter().map(|part| &part.experts);
        let all: Vec<&Vec<f32>> = std::iter::once(&segment.experts)
            .chain(parts)
            .filter(|experts| !experts.is_empty())
            .collect();
        let pairs = all
            .iter()
            .enumerate()
            .flat_map(|(i, a)| all[i + 1..].iter().map(move |b| total_variation(a, b)));
        let Some(most) = pairs.reduce(f64::max).filter(|most| most.is_finite()) else {
            return 0.0;
        };
        let conflict = self.apart.squash(most, |_| FLOOR_SHARE);
        self.apart.push(most);
        conflict
    }
}

impl Sense {
    /// Surprise and arousal of a stimulus.
    fn feel(&mut self, stimulus: &Stimulus) -> (f32, f32) {
        let mut arousal = unit(stimulus.urgency);
        if stimulus.level.is_finite() {
            let level = self
                .levels
                .squash(stimulus.level, |_| stimulus.resolution.max(1e-9));
            self.levels.push(stimulus.level);
            arousal = arousal.max(level);
        }
        let finite = stimulus.character.iter().all(|x| x.is_finite());
        if !finite || stimulus.character.is_empty() {
            return (0.0, arousal);
        }
        let expected = match &mut self.expected {
            Some(expected) if expected.len() == stimulus.character.len() => expected,
            other => {
                *other = Some(stimulus.character.clone());
                return (0.0, arousal);
            }
        };
        let error = mean_difference(expected, &stimulus.character);
        let floor = stimulus.character_resolution.max(1e-9);
        let surprise = self.errors.squash(error, |_| floor);
        self.errors.push(error);
        for (expected, new) in expected.iter_mut().zip(&stimulus.character) {
            *expected += SENSOR_RATE as f32 * (new - *expected);
        }
        (surprise, arousal)
    }

    /// The five numbers, reward apart, of what was perceived; then remembers it.
    fn perceive(&mut self, part: &Perceived) -> Salience {
        let mut salience = Salience {
            surprise: unit(part.surprise),
            arousal: unit(part.arousal),
            ..Salience::default()
        };
        if let Some(strayed) = self.course.stray(&part.mean_hidden, false) {
            salience.surprise = salience.surprise.max(surprise(strayed));
        }
        let entropy = f64::from(part.router_entropy);
        if entropy.is_finite() {
            salience.conflict = self.conflict.squash(entropy, |_| FLOOR_SHARE);
            self.conflict.push(entropy);
        }
        let cosines = self.episodes.cosines(&part.mean_hidden);
        if let Some(nearest) = cosines.iter().copied().reduce(f32::max) {
            let x = 1.0 - f64::from(nearest);
            if cosines.len() >= EPISODES_MIN {
                salience.novelty = self.novelty.squash(x, |_| FLOOR_SHARE);
            }
            self.novelty.push(x);
        }
        self.episodes.insert(&part.mean_hidden);
        salience
    }
}

fn mean_difference(a: &[f32], b: &[f32]) -> f64 {
    let sum = a
        .iter()
        .zip(b)
        .fold(0.0f64, |sum, (a, b)| sum + f64::from((a - b).abs()));
    sum / a.len().max(1) as f64
}

/// Half the sum of absolute differences of two distributions, in [0, 1].
fn total_variation(a: &[f32], b: &[f32]) -> f64 {
    let longest = a.len().max(b.len());
    let at = |x: &[f32], i: usize| f64::from(x.get(i).copied().unwrap_or(0.0));
    (0..longest).fold(0.0, |sum, i| sum + (at(a, i) - at(b, i)).abs()) / 2.0
}
