//! Salience: five numbers in [0, 1], computed from what the running model measured or a sensor read.
//!
//! Everything is read before it is written: a segment is compared with the segments before it, then remembered.
//! A value x is judged by its robust z, (x − median) / (1.4826 · MAD + floor), over the last 64 segments of the
//! same origin, mapped by `1 − exp(−max(z, 0) / 3)`; fewer than 8 of them: 0.
//!
//! Surprise of a segment has two sources, and is the larger: the model predicted its tokens worse than usual, or the
//! text left the course of the segments before it. A model that knows both of two domains predicts either well; only
//! the second tells that one follows the other. Surprise is more than the run of things: it begins at 1.5 deviations
//! (`1 − exp(−max(z − 1.5, 0) / 1.5)`), for by its nature every seventh segment lies beyond the first.
//!
//! A segment that begins a context, or in which the context was full and began anew, is predicted from nothing: the model
//! loses more on it, however well it knows the text. It surprises only as far as it exceeds both the usual segment and
//! the usual beginning; while there are fewer than 8 beginnings the worst of them stands for the usual one.
//!
//! Reward is an event: what feedback said, or similar episodes led to expect, fades to neutral with a half-life.

pub mod actor;
mod course;
mod episodes;
mod scales;
mod senses;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::config::SalienceConfig;
use crate::math::{Baseline, squash};
use crate::protocol::{
    Observe, Pruned, Salience, SalienceReport, Segment, SensorReading, TokenMeasure, TokenOrigin,
};
use course::Course;
use episodes::Episodes;
use scales::{EPISODES_MIN, FLOOR_SHARE, SENSOR_RATE, mean, surprise, unit};
use senses::Perception;

/// Fewer segments of an origin than this say nothing of the next one: its surprise, novelty and conflict are 0.
pub const WARM_UP_SEGMENTS: usize = Baseline::WARM_UP;
/// Noise floor of surprise, nats.
const FLOOR_NATS: f64 = 0.1;

/// Baselines of one origin.
#[derive(Clone, Debug, Default)]
struct Baselines {
    loss: Baseline,
    /// Of segments that began a context.
    loss_at_beginnings: Baseline,
    course: Course,
    novelty: Baseline,
    conflict: Baseline,
}

#[derive(Clone, Debug, Default)]
struct Sensor {
    prediction: Option<f64>,
    errors: Baseline,
}

/// The salience assessor.
#[derive(Clone, Debug)]
pub struct Assessor {
    observed: Baselines,
    generated: Baselines,
    /// nll − entropy of decoded tokens.
    tokens: Baseline,
    /// Tokens and events a tick, of steps with input.
    rates: Baseline,
    sensors: BTreeMap<String, Sensor>,
    episodes: Episodes,
    /// Episodes that were consolidated since the start.
    consolidated: u32,
    /// Sounds and pictures.
    perception: Perception,
    config: SalienceConfig,
    /// What feedback or the last segment said.
    reward: f32,
    /// Ticks since it was said.
    reward_ticks: u64,
    /// The five numbers of the step that brought the last segment.
    segment: Salience,
}

impl Default for Assessor {
    fn default() -> Self {
        Self::new()
    }
}

impl Assessor {
    /// Without baselines and without memory, with the defaults.
    pub fn new() -> Self {
        Self::of(SalienceConfig::default())
    }

    /// Without baselines and without memory.
    pub fn of(config: SalienceConfig) -> Self {
        Self {
            config,
            observed: Baselines::default(),
            generated: Baselines::default(),
            tokens: Baseline::default(),
            rates: Baseline::default(),
            sensors: BTreeMap::new(),
            episodes: Episodes::default(),
            consolidated: 0,
            perception: Perception::default(),
            reward: 0.5,
            reward_ticks: 0,
            segment: Salience {
                reward: 0.5,
                ..Salience::default()
            },
        }
    }

    /// Goes on with other numbers; baselines and episodes stay.
    pub fn reconfigure(&mut self, config: SalienceConfig) {
        self.config = config;
    }

    /// Assesses one step. Without a segment and without sensors, surprise, novelty and conflict are 0, arousal is
    /// computed and reward fades.
    pub fn step(&mut self, observe: &Observe) -> SalienceReport {
        self.reward_ticks = self.reward_ticks.saturating_add(observe.ticks.into());
        let mut salience = Salience::default();
        let feedback = observe
            .feedback
            .filter(|r| r.is_finite())
            .map(|r| (1.0 + r.clamp(-1.0, 1.0)) / 2.0);
        let felt = self
            .perception
            .step(&observe.stimuli, observe.segment.as_ref());
        if let Some(segment) = observe.segment.as_ref().filter(|s| has_words(s)) {
            self.assess(segment, &mut salience);
        }
        if let Some(outcome) = feedback {
            // After the segment was remembered: it belongs to the turn that the feedback is about.
            self.episodes.mark(outcome);
            self.perception.mark(outcome);
            self.rewarded(outcome);
        }
        for reading in &observe.sensors {
            salience.surprise = salience.surprise.max(self.sense(reading));
        }
        let urgency = unit(observe.urgency);
        salience.arousal = self.arousal(observe).max(urgency);
        salience.reward = self.reward();
        let words = salience;
        felt.raise(&mut salience);
        if observe.segment.as_ref().is_some_and(has_words) {
            self.perception.heard_words(words);
        }
        if observe.segment.is_some() {
            self.segment = salience;
        }
        let token = observe
            .last_token
            .map_or(0.0, |token| self.token_surprise(token));
        let surprise_t = self.segment.surprise.max(token);
        let raised = Salience {
            surprise: surprise_t,
            ..self.segment
        };
        SalienceReport {
            salience,
            salience_t: mean(&raised),
            surprise_t,
            urgency,
            threat: if observe.alarm || observe.sensors.iter().any(SensorReading::is_out_of_range) {
                1.0
            } else {
                0.0
            },
            senses: self.perception.report(&felt, words, token),
        }
    }

    /// Segments that entered memory since the start and were not consolidated.
    pub fn unconsolidated_episodes(&self) -> u32 {
        self.episodes.inserted().saturating_sub(self.consolidated)
    }

    /// The oldest `episodes` that were not consolidated now are.
    pub fn consolidate(&mut self, episodes: u32) {
        let all = self.consolidated.saturating_add(episodes);
        self.consolidated = all.min(self.episodes.inserted());
    }

    /// Merges episodes that are nearly alike.
    pub fn prune(&mut self) -> Pruned {
        let mut pruned = self.episodes.prune();
        self.perception.prune(&mut pruned);
        pruned
    }

    /// Surprise, novelty, conflict and expected reward of a segment; then remembers it.
    fn assess(&mut self, segment: &Segment, salience: &mut Salience) {
        let baselines = match segment.origin {
            TokenOrigin::Observed | TokenOrigin::Perceived => &mut self.observed,
            TokenOrigin::Generated => &mut self.generated,
        };
        let begins = segment.begins_context;
        let strayed = baselines.course.stray(&segment.mean_hidden, begins);
        let mut lost = None;
        if let Some(x) = mean_nats(&segment.tokens) {
            lost = match begins {
                true => {
                    let kin = &baselines.loss_at_beginnings;
                    let z = baselines.loss.z_of_kind(x, kin, 1, |_| FLOOR_NATS);
                    baselines.loss_at_beginnings.push(x);
                    z
                }
                false => baselines.loss.z(x, |_| FLOOR_NATS),
            };
            baselines.loss.push(x);
        }
        let most = [lost, strayed].into_iter().flatten().reduce(f64::max);
        salience.surprise = most.map_or(0.0, surprise);
        let entropy = f64::from(segment.router_entropy);
        if entropy.is_finite() {
            salience.conflict = baselines.conflict.squash(entropy, |_| FLOOR_SHARE);
            baselines.conflict.push(entropy);
        }
        let cosines = self.episodes.cosines(&segment.mean_hidden);
        (self.reward, self.reward_ticks) = (self.episodes.expected_outcome(&cosines), 0);
        if let Some(nearest) = cosines.iter().copied().reduce(f32::max) {
            let x = 1.0 - f64::from(nearest);
            if cosines.len() >= EPISODES_MIN {
                salience.novelty = baselines.novelty.squash(x, |_| FLOOR_SHARE);
            }
            baselines.novelty.push(x);
        }
        self.episodes.insert(&segment.mean_hidden);
    }

    /// Feedback, or what the segment leads to expect.
    fn rewarded(&mut self, outcome: f32) {
        (self.reward, self.reward_ticks) = (outcome, 0);
    }

    /// What is left of the last reward: half of its distance from neutral goes in each half-life. However the ticks are cut into
    /// steps, it is the same.
    fn reward(&self) -> f32 {
        let half_life = self.config.reward_half_life_ticks;
        if half_life == 0 || self.reward_ticks == 0 {
            return self.reward;
        }
        let halvings = self.reward_ticks as f32 / half_life as f32;
        0.5 + (self.reward - 0.5) * libm::exp2f(-halvings)
    }

    /// Surprise of a reading: its distance from a moving average, judged by the distances before it.
    fn sense(&mut self, reading: &SensorReading) -> f32 {
        if !reading.value.is_finite() {
            return 0.0;
        }
        let sensor = self.sensors.entry(reading.name.clone()).or_default();
        let Some(prediction) = sensor.prediction else {
            sensor.prediction = Some(reading.value);
            return 0.0;
        };
        let error = (reading.value - prediction).abs();
        let surprise = sensor
            .errors
            .squash(error, |_| reading.resolution.max(1e-9));
        sensor.errors.push(error);
        sensor.prediction = Some(prediction + SENSOR_RATE * (reading.value - prediction));
        surprise
    }

    /// Input rate against the rates of earlier steps that brought input; floor: 1 or a quarter of their median.
    fn arousal(&mut self, observe: &Observe) -> f32 {
        let arrived = f64::from(observe.tokens_in) + f64::from(observe.events_in);
        if arrived == 0.0 {
            return 0.0;
        }
        let rate = arrived / f64::from(observe.ticks.max(1));
        let arousal = self.rates.squash(rate, |median| (0.25 * median).max(1.0));
        self.rates.push(rate);
        arousal
    }

    /// A decoded token's own surprise, judged by the last 64 decoded tokens.
    fn token_surprise(&mut self, token: TokenMeasure) -> f32 {
        let x = f64::from(token.nll) - f64::from(token.entropy);
        if !x.is_finite() {
            return 0.0;
        }
        let surprise = self.tokens.z(x, |_| FLOOR_NATS).map_or(0.0, squash);
        self.tokens.push(x);
        surprise
    }
}

/// Whether there is anything in it but what was heard or seen.
fn has_words(segment: &Segment) -> bool {
    segment.perceived.is_empty() || !segment.mean_hidden.is_empty()
}

/// Mean loss of the tokens, nats. None without tokens.
fn mean_nats(tokens: &[TokenMeasure]) -> Option<f64> {
    let losses = tokens.iter().map(|token| f64::from(token.nll));
    let (sum, count) = losses
        .filter(|nll| nll.is_finite())
        .fold((0.0, 0u32), |(sum, count), nll| (sum + nll, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
