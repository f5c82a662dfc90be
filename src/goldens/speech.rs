//! Speech cases through the whole engine, and the vocoder alone.

use sage_actors::protocol::Module;

use super::case::{Case, Golden, Inputs};
use super::compare::{CaseComparison, LOGITS_TOLERANCE, MODULE_TOLERANCE};
use super::recorder::Recorder;
use super::{VerifyError, greedy, read};
use crate::core::perception::Features;
use crate::core::speech::{
    Choosing, CollectedTurn, Speaking, SpeechEnded, SpeechRequest, SpeechStep, Spoken,
    talker_directive,
};
use crate::core::{Arrivals, Engine, EngineError, Forward, Orientation, Probe, drive};
use crate::model::speech::{CodesError, chunks};

/// Thinker with the case's media, talker, code predictor, vocoder: greedy, as the reference ran it.
pub(super) async fn compare(
    engine: &mut Engine,
    case: &Case,
    golden: &Golden,
    inputs: &Inputs,
    features: Option<&Features>,
    comparison: &mut CaseComparison<'_>,
) -> Result<(), VerifyError> {
    let steps = case.needed_number("/generation/thinker_tokens")?;
    let end = case.needed_number("/generation/thinker_eos")? as u32;
    let request = request(engine, case)?;
    let tokens = inputs.tokens(0);
    let hidden = engine.text_config().hidden_size;
    let mut said = CollectedTurn::new(&tokens, features, steps, hidden);
    let mut recorder = Recorder::default();
    let mut kept = |step: &Forward| said.read(step);
    let mut read = read(engine, &tokens, features, &mut recorder, &mut kept).await?;
    comparison.perceived(&recorder)?;
    let mut kept = |step: &Forward| said.wrote(step);
    let generated = greedy(engine, &mut read, steps, end, None, &mut kept).await?;

    let mut recorder = Recorder::default();
    let mut waveform = Vec::new();
    let probe: &mut dyn Probe = &mut recorder;
    let spoken = speak(engine, &said, &request, &mut Some(probe), &mut waveform).await?;
    ids(comparison, golden, "thinker.tokens", &generated.tokens)?;
    heard(comparison, golden, &recorder, &spoken, engine)?;
    loop_of(comparison, golden, &recorder, &spoken)?;
    floats(comparison, golden, "waveform", &waveform, LOGITS_TOLERANCE)
}

/// Speaks a turn to its end, as the loop would, its request open all the while; `probe` hears of every tensor.
pub async fn speak(
    engine: &mut Engine,
    said: &CollectedTurn,
    request: &SpeechRequest,
    probe: &mut Option<&mut dyn Probe>,
    waveform: &mut Vec<f32>,
) -> Result<Spoken, EngineError> {
    let mut speaking = Speaking::new(engine, &said.rows(), &said.grids, request, probe)?;
    let ended = loop {
        let arrivals = Arrivals {
            open_requests: 1,
            spoken_drive: Some(speaking.drive()),
            ..Arrivals::default()
        };
        let act = async |engine: &mut Engine, orientation: &Orientation| match talker_directive(
            orientation,
        ) {
            Some(talker) => speaking.step(engine, orientation, talker, probe).await,
            None if speaking.wait() => {
                engine.idle(1);
                Ok(SpeechStep::Reading)
            }
            None => Ok(SpeechStep::Ended(SpeechEnded::Depletion)),
        };
        match drive::turn(engine, arrivals, act).await?.1 {
            SpeechStep::Reading => {}
            SpeechStep::Frame(samples) => waveform.extend(samples.unwrap_or_default()),
            SpeechStep::Ended(ended) => break ended,
        }
    };
    waveform.extend(speaking.finish()?.unwrap_or_default());
    Ok(speaking.summary(ended))
}

fn request(engine: &Engine, case: &Case) -> Result<SpeechRequest, VerifyError> {
    let speaker = case.description().pointer("/generation/speaker");
    let speaker = speaker.and_then(|name| name.as_str());
    Ok(SpeechRequest {
        speaker: speaker.unwrap_or(crate::core::speech::SPEAKER).to_owned(),
        choosing: Choosing::GREEDY,
        max_codes: case
            .needed_number("/generation/talker_tokens")?
            .min(engine.voice()?.codes()),
        end: case.number("/generation/talker_eos").map(|end| end as u32),
    })
}

/// The talker's prompt, and its way through the layers.
fn heard(
    comparison: &mut CaseComparison<'_>,
    golden: &Golden,
    found: &Recorder,
    spoken: &Spoken,
    engine: &Engine,
) -> Result<(), VerifyError> {
    let layers = engine.layers_of(Module::Talker).len();
    let tensor = |comparison: &mut CaseComparison<'_>, name: &str, tolerance| {
        let found = found.tensor_of(name);
        floats(comparison, golden, name, found, tolerance)
    };
    tensor(comparison, "talker.input_embeds", MODULE_TOLERANCE)?;
    tensor(comparison, "talker.trailing_text_hidden", MODULE_TOLERANCE)?;
    tensor(comparison, "talker.tts_pad_embed", MODULE_TOLERANCE)?;
    ids(comparison, golden, "talker.input_ids", &spoken.prompt_ids)?;
    tensor(comparison, "talker.prefill_position_ids", 0.0)?;
    let rows: Vec<usize> = (0..spoken.prompt_rows).collect();
    for layer in 0..layers {
        let router = format!("talker.router_logits.{layer}");
        tensor(comparison, &router, MODULE_TOLERANCE)?;
        comparison.chosen("talker", layer, &rows, found)?;
        tensor(
            comparison,
            &format!("talker.layer_out.{layer}"),
            MODULE_TOLERANCE,
        )?;
    }
    tensor(comparison, "talker.final_norm", MODULE_TOLERANCE)
}

/// Step by step.
fn loop_of(
    comparison: &mut CaseComparison<'_>,
    golden: &Golden,
    found: &Recorder,
    spoken: &Spoken,
) -> Result<(), VerifyError> {
    for (name, tolerance) in [
        ("talker.step_hidden", MODULE_TOLERANCE),
        ("talker.step_logits", LOGITS_TOLERANCE),
        ("code_predictor.logits", LOGITS_TOLERANCE),
        ("talker.step_inputs_embeds", MODULE_TOLERANCE),
    ] {
        floats(comparison, golden, name, found.tensor_of(name), tolerance)?;
    }
    let name = "talker.decode_position_ids";
    // The three axes are one.
    let positions = found.tensor_of(name).repeat(3);
    floats(comparison, golden, name, &positions, 0.0)?;
    ids(comparison, golden, "talker.tokens", &spoken.tokens)?;
    ids(comparison, golden, "talker.codes", &spoken.codes)
}

/// The vocoder on given codes, whole and in chunks.
pub(super) fn vocode(
    engine: &Engine,
    case: &Case,
    golden: &Golden,
    comparison: &mut CaseComparison<'_>,
) -> Result<(), VerifyError> {
    let voice = engine.voice()?;
    let name = "code2wav.codes";
    let missing = || golden.error(name, "is missing".into());
    let (shape, codes) = golden.integers(name)?.ok_or_else(missing)?;
    let frames = shape.last().copied().unwrap_or(0);
    // What is no code is beyond every codebook.
    let codes: Vec<u32> = codes
        .iter()
        .map(|c| u32::try_from(*c).unwrap_or(u32::MAX))
        .collect();
    let mut told: Vec<(String, Vec<f32>)> = Vec::new();
    let mut probe = |name: &str, values: &[f32]| told.push((name.to_owned(), values.to_vec()));
    let wrong = |error: CodesError| golden.error(name, error.to_string());
    let whole = voice
        .samples_probed(&codes, frames, &mut probe)
        .map_err(wrong)?;
    for (name, values) in &told {
        let Some((shape, _)) = golden.floats(name)? else {
            continue;
        };
        let values = match shape[..] {
            [_, channels, kept] => first_of_each(values, channels, kept),
            _ => values.clone(),
        };
        floats(comparison, golden, name, &values, MODULE_TOLERANCE)?;
    }
    floats(
        comparison,
        golden,
        "code2wav.waveform_full",
        &whole,
        LOGITS_TOLERANCE,
    )?;
    let (chunk, context) = (
        case.needed_number("/measured/chunk_size")?,
        case.needed_number("/measured/left_context_size")?,
    );
    if chunk == 0 {
        return Err(wrong(CodesError::NoChunk).into());
    }
    let mut chunked = Vec::new();
    for chunk in chunks(frames, chunk, context) {
        chunked.extend(voice.samples(&codes, frames, &chunk).map_err(wrong)?);
    }
    floats(
        comparison,
        golden,
        "code2wav.waveform_chunked",
        &chunked,
        LOGITS_TOLERANCE,
    )
}

/// Of each channel the first samples: a golden may hold no more.
fn first_of_each(values: &[f32], channels: usize, kept: usize) -> Vec<f32> {
    let rows = values.chunks_exact((values.len() / channels.max(1)).max(1));
    rows.flat_map(|row| row[..kept.min(row.len())].iter().copied())
        .collect()
}

/// All of a tensor, where the golden holds it.
fn floats(
    comparison: &mut CaseComparison<'_>,
    golden: &Golden,
    name: &str,
    found: &[f32],
    tolerance: f64,
) -> Result<(), VerifyError> {
    if let Some((shape, expected)) = golden.floats(name)? {
        let cols = shape.last().copied().unwrap_or(1);
        comparison.floats(name, 0, cols, found, &expected, tolerance)?;
    }
    Ok(())
}

/// All of a tensor of whole numbers.
fn ids(
    comparison: &mut CaseComparison<'_>,
    golden: &Golden,
    name: &str,
    found: &[u32],
) -> Result<(), VerifyError> {
    let Some((_, expected)) = golden.integers(name)? else {
        return Ok(());
    };
    let pairs = found.iter().zip(&expected);
    let differ =
        pairs.filter(|(a, b)| i64::from(**a) != **b).count() + found.len().abs_diff(expected.len());
    comparison.note_integers(name, differ, || {
        let text = |ids: &[i64]| format!("{:?}", &ids[..ids.len().min(24)]);
        let found: Vec<i64> = found.iter().map(|id| i64::from(*id)).collect();
        format!(
            "{name}: {differ} differ: found {}, expected {}",
            text(&found),
            text(&expected)
        )
    });
    Ok(())
}
