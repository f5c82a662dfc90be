//! What was perceived in a prompt: the tokens that stand for sounds and pictures, and what the towers made of them.

use std::ops::Range;

use sage_actors::protocol::{ModalSalience, Modality, SalienceSpan, Senses};

use crate::model::Positions;

/// A prompt's sounds and pictures, perceived.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// Of every token; the markers around a sound or a picture belong to it.
    pub modalities: Vec<Modality>,
    /// Of every token, its row in `embeds`, where it is a placeholder.
    pub rows: Vec<Option<usize>>,
    /// Outputs of the towers in the order of the placeholders, `[placeholders, hidden]`.
    pub embeds: Vec<f32>,
    /// Of every token, its row in the levels, where it stands for a part of a picture.
    pub deep_rows: Vec<Option<usize>>,
    /// Added to the rows of pictures after the thinker's first layers, `[level][rows, hidden]`.
    pub deepstack: Vec<Vec<f32>>,
    /// Where every token stands.
    pub positions: Positions,
    /// What a token's position is above its number, behind the prompt.
    pub position_delta: f32,
    /// Salience of each modality as the prompt arrived: its tokens carry it.
    pub felt: Option<Senses>,
}

impl Scene {
    /// Overwrites the rows of placeholders among the embeddings `x` `[tokens, hidden]` of the tokens `of` of the prompt.
    pub fn embed(&self, of: Range<usize>, x: &mut [f32], hidden: usize) {
        let rows = self.rows[of].iter().zip(x.chunks_exact_mut(hidden));
        for (row, x) in rows {
            if let Some(row) = row {
                x.copy_from_slice(&self.embeds[row * hidden..(row + 1) * hidden]);
            }
        }
    }

    /// Adds level `layer` to the rows of pictures, where there is such a level and such a row; whether it did.
    pub fn deepen(&self, layer: usize, of: Range<usize>, x: &mut [f32], hidden: usize) -> bool {
        let Some(level) = self.deepstack.get(layer) else {
            return false;
        };
        for (row, x) in self.deep_rows[of].iter().zip(x.chunks_exact_mut(hidden)) {
            if let Some(row) = row {
                let added = &level[row * hidden..(row + 1) * hidden];
                x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
            }
        }
        true
    }

    /// Runs of tokens of one modality other than words, with the modality, counted from the first of `of`.
    pub fn runs(&self, of: Range<usize>) -> Vec<(Modality, Range<usize>)> {
        let mut runs: Vec<(Modality, Range<usize>)> = Vec::new();
        for (at, modality) in self.modalities[of].iter().enumerate() {
            match runs.last_mut() {
                Some((last, run)) if last == modality && run.end == at => run.end = at + 1,
                _ if *modality == Modality::Text => {}
                _ => runs.push((*modality, at..at + 1)),
            }
        }
        runs
    }

    /// What the rows of sounds and pictures carry into the routers.
    pub fn spans(&self, of: Range<usize>) -> Vec<SalienceSpan> {
        let runs = self.runs(of).into_iter();
        runs.map(|(modality, run)| {
            let felt = self.felt_of(modality);
            SalienceSpan {
                first_row: run.start as u32,
                rows: run.len() as u32,
                salience_t: felt.salience_t,
                surprise_t: felt.surprise_t,
            }
        })
        .collect()
    }

    /// Salience of a modality as the prompt arrived.
    pub fn felt_of(&self, modality: Modality) -> ModalSalience {
        let felt = self.felt.and_then(|felt| felt.of(modality));
        felt.unwrap_or_default()
    }

    /// Whether token `at` is a word.
    pub fn is_word(&self, at: usize) -> bool {
        self.modalities[at] == Modality::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_one_modality_and_begin_anew_in_every_chunk() {
        use Modality::{Audio as A, Text as T, Vision as V};
        let scene = Scene {
            modalities: vec![T, A, A, A, V, T, V],
            ..Scene::default()
        };
        assert_eq!(scene.runs(0..7), [(A, 1..4), (V, 4..5), (V, 6..7)]);
        assert_eq!(scene.runs(2..5), [(A, 0..2), (V, 2..3)]);
        assert_eq!(scene.runs(0..1), []);
    }

    #[test]
    fn only_placeholders_are_overwritten_and_only_pictures_deepened() {
        let scene = Scene {
            modalities: vec![Modality::Text, Modality::Audio, Modality::Vision],
            rows: vec![None, Some(0), Some(1)],
            embeds: vec![5.0, 6.0],
            deep_rows: vec![None, None, Some(0)],
            deepstack: vec![vec![10.0]],
            ..Scene::default()
        };
        let mut x = [1.0, 2.0];
        scene.embed(1..3, &mut x, 1);
        assert_eq!(x, [5.0, 6.0]);
        assert!(scene.deepen(0, 1..3, &mut x, 1));
        assert_eq!(x, [5.0, 16.0]);
        assert!(!scene.deepen(1, 1..3, &mut x, 1));
    }
}
