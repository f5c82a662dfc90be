//! Who hears of intermediate results.

/// Hears of intermediate results under the golden files' names, in their layout (`[channels, time]` behind the transformer).
pub type Probe<'a> = &'a mut dyn FnMut(&str, &[f32]);

/// Tells of x `[time, channels]` as `[channels, time]`.
pub(super) fn tell(
    probe: &mut Option<Probe<'_>>,
    name: &str,
    at: usize,
    x: &[f32],
    channels: usize,
) {
    let Some(probe) = probe else { return };
    let rows = x.len() / channels;
    let turned: Vec<f32> = (0..x.len())
        .map(|at| x[at % rows * channels + at / rows])
        .collect();
    probe(&format!("code2wav.{name}.{at}"), &turned);
}
