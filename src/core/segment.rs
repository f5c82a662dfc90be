//! What salience needs of a segment: collected step by step, its words apart from what was heard or seen.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sage_actors::protocol::{Modality, Perceived, Segment, TokenMeasure, TokenOrigin};

use super::scene::Scene;
use super::step_result::Forward;

/// Sums over tokens of one modality.
#[derive(Clone, Debug, Default)]
struct Sums {
    hidden: Vec<f64>,
    entropy: f64,
    rows: usize,
    /// How often each expert was chosen; kept where something was perceived.
    chosen: BTreeMap<(u16, u16), u32>,
}

impl Sums {
    fn add(&mut self, forward: &Forward, rows: Range<usize>, width: usize, choices: bool) {
        self.hidden.resize(width, 0.0);
        self.rows += rows.len();
        for row in rows {
            let values = &forward.normed[row * width..(row + 1) * width];
            let sums = self.hidden.iter_mut().zip(values);
            sums.for_each(|(sum, value)| *sum += f64::from(*value));
            let worked = forward.work.worked.get(row).filter(|_| choices);
            for worked in worked.into_iter().flatten() {
                *self
                    .chosen
                    .entry((worked.layer, worked.expert))
                    .or_default() += 1;
            }
        }
    }

    fn mean_hidden(&self) -> Vec<f32> {
        let rows = self.rows.max(1) as f64;
        self.hidden.iter().map(|sum| (sum / rows) as f32).collect()
    }

    fn mean_entropy(&self) -> f32 {
        (self.entropy / self.rows.max(1) as f64) as f32
    }

    /// Shares of the choices that fell on each of `experts`.
    fn shares(&self, experts: &BTreeSet<(u16, u16)>) -> Vec<f32> {
        let all: u32 = self.chosen.values().sum();
        let share = |expert| {
            let count = self.chosen.get(expert).copied().unwrap_or(0);
            f64::from(count) / f64::from(all.max(1))
        };
        experts.iter().map(|expert| share(expert) as f32).collect()
    }
}

/// A part that was heard or seen, with what its stimulus came to.
#[derive(Clone, Debug, Default)]
struct PerceivedPart {
    sums: Sums,
    surprise: f32,
    arousal: f32,
}

/// Collects a segment.
#[derive(Debug)]
pub struct SegmentBuilder {
    origin: TokenOrigin,
    begins_context: bool,
    hidden: usize,
    tokens: Vec<TokenMeasure>,
    words: Sums,
    perceived: BTreeMap<Modality, PerceivedPart>,
}

impl SegmentBuilder {
    /// An empty segment of hidden states of `hidden` numbers.
    pub fn new(origin: TokenOrigin, hidden: usize) -> Self {
        Self {
            origin,
            begins_context: false,
            hidden,
            tokens: Vec::new(),
            words: Sums::default(),
            perceived: BTreeMap::new(),
        }
    }

    /// What is added next stands at the beginning of a context.
    pub fn begin_context(&mut self) {
        self.begins_context = true;
    }

    /// Adds the rows of a step and the measures of their tokens; `scene` is what they are a part of, and the number of the first in it.
    pub fn add(
        &mut self,
        forward: &Forward,
        measures: &[TokenMeasure],
        scene: Option<(&Scene, usize)>,
    ) {
        let rows = forward.normed.len() / self.hidden;
        self.tokens.extend_from_slice(measures);
        let mut entropy = f64::from(forward.entropy.mean) * rows as f64;
        let mut done = 0;
        if let Some((scene, first)) = scene {
            let runs = scene.runs(first..first + rows).into_iter();
            for ((modality, run), of_run) in runs.zip(&forward.entropy.spans) {
                self.words.add(forward, done..run.start, self.hidden, true);
                done = run.end;
                let part = self.perceived.entry(modality).or_default();
                part.sums.add(forward, run, self.hidden, true);
                part.sums.entropy += f64::from(*of_run);
                entropy -= f64::from(*of_run);
                let felt = scene.felt_of(modality).salience;
                (part.surprise, part.arousal) = (felt.surprise, felt.arousal);
            }
        }
        let choices = scene.is_some();
        self.words.add(forward, done..rows, self.hidden, choices);
        self.words.entropy += entropy;
    }

    /// Adds some rows of a step without a scene, the measures of the tokens among them, and the sum of their router entropies.
    pub fn add_rows(
        &mut self,
        forward: &Forward,
        rows: Range<usize>,
        measures: &[TokenMeasure],
        entropy_sum: f32,
    ) {
        self.tokens.extend_from_slice(measures);
        self.words.add(forward, rows, self.hidden, false);
        self.words.entropy += f64::from(entropy_sum);
    }

    /// Adds measures of tokens whose rows come later.
    pub fn add_measures(&mut self, measures: &[TokenMeasure]) {
        self.tokens.extend_from_slice(measures);
    }

    /// Tokens so far.
    pub fn rows(&self) -> usize {
        let perceived = self.perceived.values().map(|part| part.sums.rows);
        self.words.rows + perceived.sum::<usize>()
    }

    /// Mean loss of the measured tokens, nats; none when none was.
    pub fn mean_loss(&self) -> Option<f64> {
        let sum: f64 = self.tokens.iter().map(|token| f64::from(token.nll)).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f64)
    }

    /// The segment; the builder is empty again.
    pub fn take(&mut self) -> Segment {
        let words = std::mem::take(&mut self.words);
        let parts = std::mem::take(&mut self.perceived);
        let all = parts.values().map(|part| &part.sums).chain([&words]);
        let experts: BTreeSet<(u16, u16)> = all.flat_map(|s| s.chosen.keys().copied()).collect();
        let perceived = |(modality, part): (Modality, PerceivedPart)| Perceived {
            modality,
            mean_hidden: part.sums.mean_hidden(),
            router_entropy: part.sums.mean_entropy(),
            experts: part.sums.shares(&experts),
            surprise: part.surprise,
            arousal: part.arousal,
        };
        let alone = parts.is_empty();
        let said = words.rows > 0;
        Segment {
            origin: self.origin,
            begins_context: std::mem::take(&mut self.begins_context),
            tokens: std::mem::take(&mut self.tokens),
            mean_hidden: if said || alone {
                let mut hidden = words.mean_hidden();
                hidden.resize(self.hidden, 0.0);
                hidden
            } else {
                Vec::new()
            },
            router_entropy: words.mean_entropy(),
            experts: if said && !alone {
                words.shares(&experts)
            } else {
                Vec::new()
            },
            perceived: parts.into_iter().map(perceived).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::step_result::{ExpertWork, RouterEntropy};
    use sage_actors::protocol::Worked;

    fn forward(hidden: &[f32], experts: &[u16], entropy: f32, spans: &[f32]) -> Forward {
        let worked = |expert: &u16| {
            vec![Worked {
                layer: 0,
                expert: *expert,
                gate: 1.0,
            }]
        };
        Forward {
            normed: hidden.to_vec(),
            entropy: RouterEntropy {
                mean: entropy,
                spans: spans.to_vec(),
            },
            work: ExpertWork {
                worked: experts.iter().map(worked).collect(),
                ..ExpertWork::default()
            },
            ..Forward::default()
        }
    }

    #[test]
    fn words_alone_are_one_sum() {
        let mut builder = SegmentBuilder::new(TokenOrigin::Observed, 1);
        builder.add(&forward(&[1.0, 3.0], &[0, 1], 0.5, &[]), &[], None);
        let segment = builder.take();
        assert_eq!(
            (segment.mean_hidden, segment.router_entropy),
            (vec![2.0], 0.5)
        );
        assert!(segment.perceived.is_empty() && segment.experts.is_empty());
        assert_eq!(builder.take().mean_hidden, [0.0]);
    }

    #[test]
    fn a_sound_is_summed_apart_from_the_words_around_it() {
        let scene = Scene {
            modalities: vec![
                Modality::Text,
                Modality::Audio,
                Modality::Audio,
                Modality::Text,
            ],
            ..Scene::default()
        };
        let mut builder = SegmentBuilder::new(TokenOrigin::Observed, 1);
        let first = forward(&[1.0, 10.0, 20.0], &[3, 4, 5], 0.4, &[0.9]);
        builder.add(&first, &[], Some((&scene, 0)));
        builder.add(&forward(&[3.0], &[3], 0.5, &[]), &[], Some((&scene, 3)));
        assert_eq!(builder.rows(), 4);
        let segment = builder.take();
        let heard = &segment.perceived[0];
        assert_eq!(segment.mean_hidden, [2.0]);
        assert_eq!(heard.mean_hidden, [15.0]);
        // 3 * 0.4 - 0.9 and 0.5 over two words; 0.9 over two tokens of sound.
        assert!((segment.router_entropy - 0.4).abs() < 1e-6);
        assert!((heard.router_entropy - 0.45).abs() < 1e-6);
        assert_eq!(segment.experts, [1.0, 0.0, 0.0]);
        assert_eq!(heard.experts, [0.0, 0.5, 0.5]);
    }

    #[test]
    fn a_sound_without_words_leaves_them_empty() {
        let scene = Scene {
            modalities: vec![Modality::Audio],
            ..Scene::default()
        };
        let mut builder = SegmentBuilder::new(TokenOrigin::Observed, 1);
        builder.add(&forward(&[1.0], &[3], 0.4, &[0.4]), &[], Some((&scene, 0)));
        let segment = builder.take();
        assert!(segment.mean_hidden.is_empty() && segment.experts.is_empty());
        assert_eq!(segment.perceived[0].experts, [1.0]);
    }
}
