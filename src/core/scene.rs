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
    /// Of the tokens `of`, those whose embeddings are replaced, counted from the first of them, and the rows `[hidden]` that
    /// take their places.
    pub fn replaced(&self, of: Range<usize>, hidden: usize) -> Vec<(usize, &[f32])> {
        rows_of(&self.rows[of], &self.embeds, hidden)
    }

    /// What level `layer` adds to the rows of pictures among the tokens `of`, likewise; none where there is no such level.
    pub fn deeper(
        &self,
        layer: usize,
        of: Range<usize>,
        hidden: usize,
    ) -> Option<Vec<(usize, &[f32])>> {
        let level = self.deepstack.get(layer)?;
        Some(rows_of(&self.deep_rows[of], level, hidden))
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

/// The tokens that have a row, and their rows among `values` `[rows, hidden]`.
fn rows_of<'a>(
    rows: &[Option<usize>],
    values: &'a [f32],
    hidden: usize,
) -> Vec<(usize, &'a [f32])> {
    let rows = rows.iter().enumerate();
    rows.filter_map(|(at, row)| Some((at, (*row)?)))
        .map(|(at, row)| (at, &values[row * hidden..(row + 1) * hidden]))
        .collect()
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
    fn only_placeholders_are_replaced_and_only_pictures_deepened() {
        let scene = Scene {
            modalities: vec![Modality::Text, Modality::Audio, Modality::Vision],
            rows: vec![None, Some(0), Some(1)],
            embeds: vec![5.0, 6.0],
            deep_rows: vec![None, None, Some(0)],
            deepstack: vec![vec![10.0]],
            ..Scene::default()
        };
        let replaced = scene.replaced(1..3, 1);
        assert_eq!(replaced, [(0, &[5.0][..]), (1, &[6.0][..])]);
        assert_eq!(scene.deeper(0, 1..3, 1), Some(vec![(1, &[10.0][..])]));
        assert_eq!(scene.deeper(1, 1..3, 1), None);
    }
}
