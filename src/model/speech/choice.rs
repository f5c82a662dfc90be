//! What is done to the talker's logits before a code is chosen.

/// Repetition penalty of the released pipeline.
pub const REPETITION_PENALTY: f32 = 1.05;

/// Temperature at which the released pipeline chooses, among the [`TOP_K`] most probable codes.
pub const TEMPERATURE: f32 = 0.9;

/// See [`TEMPERATURE`].
pub const TOP_K: usize = 50;

/// How the released pipeline chooses a frame's remaining codes: after division by the temperature, among so many most
/// probable codes, and the least set of them whose probability reaches [`REST_TOP_P`]. Greedy when the talker is.
pub const REST_TEMPERATURE: f32 = 1.0;
/// See [`REST_TEMPERATURE`].
pub const REST_TOP_K: usize = 50;
/// See [`REST_TEMPERATURE`].
pub const REST_TOP_P: f32 = 0.8;

/// Codes at most, the end code included.
pub const MAX_CODES: usize = 4096;

/// So many ids at the end of the codec vocabulary are no sound.
pub const SPECIAL_CODES: usize = 1024;

/// Makes codes that were chosen before less likely, each once however often it was: a negative logit is multiplied by
/// `penalty`, another divided. Codes beyond the logits are passed over. Comes before [`suppress`].
pub fn penalise(logits: &mut [f32], chosen: &[u32], penalty: f32) {
    let mut done = vec![false; logits.len()];
    for code in chosen.iter().map(|code| *code as usize) {
        if code >= logits.len() || std::mem::replace(&mut done[code], true) {
            continue;
        }
        let logit = &mut logits[code];
        *logit = if *logit < 0.0 {
            *logit * penalty
        } else {
            *logit / penalty
        };
    }
}

/// Takes the last [`SPECIAL_CODES`] codes out of the choice, except `end`.
pub fn suppress(logits: &mut [f32], end: u32) {
    let first = logits.len().saturating_sub(SPECIAL_CODES);
    for (code, logit) in logits.iter_mut().enumerate().skip(first) {
        if code != end as usize {
            *logit = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_penalised_once_and_towards_less_likely() {
        let mut logits = [3.0, -3.0, 0.0, 3.0];
        penalise(&mut logits, &[1, 0, 0, 1, 0, 2, 99], 1.5);
        assert_eq!(logits, [2.0, -4.5, 0.0, 3.0]);
    }

    #[test]
    fn only_sound_and_its_end_are_left() {
        let mut logits = vec![1.0; SPECIAL_CODES + 10];
        suppress(&mut logits, 12);
        let left: Vec<usize> = (0..logits.len()).filter(|at| logits[*at] == 1.0).collect();
        assert_eq!(left, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12]);
        let mut few = [1.0; 3];
        suppress(&mut few, 1);
        assert_eq!(few, [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY]);
    }
}
