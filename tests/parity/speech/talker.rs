//! Talker and code predictor against the speech cases: the prefill layer by layer, then the whole loop.

use sage::model::talker::{TalkerPrompt, choice};
use sage::model::{CodePredictor, Positions, RotaryTable, Talker};

use super::golden::{Golden, LONG, MODULE, bits, folder, largest_error, source, with_threads};
use super::voice::{Limits, Seen, Speech, Voice};

pub const CASES: [&str; 5] = [
    "speech-text",
    "speech-stopped",
    "speech-multimodal",
    "speech-audio-in-video",
    "speech-two-turns",
];

fn positions(golden: &Golden) -> Positions {
    let all = golden.floats("talker.prefill_position_ids");
    let mut axes = all.chunks_exact(all.len() / 3).map(<[f32]>::to_vec);
    let mut axis = || axes.next().expect("three axes");
    Positions {
        axes: [axis(), axis(), axis()],
    }
}

/// The golden prompt.
fn prompt(golden: &Golden) -> TalkerPrompt {
    TalkerPrompt {
        rows: golden.floats("talker.input_embeds"),
        ids: golden.ids("talker.input_ids"),
        trailing: golden.floats("talker.trailing_text_hidden"),
        tts_pad: golden.floats("talker.tts_pad_embed"),
    }
}

fn limits(golden: &Golden, voice: &Voice) -> Limits {
    let end = golden.number("/generation/talker_eos");
    Limits {
        end: end.map_or(voice.talker.config.codec_eos_token_id, |end| end as u32),
        tokens: golden.number("/generation/talker_tokens").expect("a limit"),
        penalty: choice::REPETITION_PENALTY,
    }
}

fn speak(case: &str, voice: &Voice) -> Speech {
    let golden = Golden::open(case);
    voice.speak(
        &prompt(&golden),
        &positions(&golden),
        &limits(&golden, voice),
    )
}

#[test]
fn the_prefill_equals_the_reference_layer_by_layer() {
    let voice = Voice::open(source().as_ref());
    for case in CASES {
        let mut golden = Golden::open(case);
        let rows = golden.floats("talker.input_embeds");
        let positions = positions(&golden);
        let mut kv = voice.talker.cache(positions.len()).expect("memory");
        voice.forward(rows, &positions, &mut kv, &mut |name, seen| match seen {
            Seen::Numbers(found) => golden.compare(name, found, MODULE),
            Seen::Ids(found) => golden.compare_ids(name, found),
        });
        assert_eq!(
            golden.compared(),
            4 * voice.talker.layers.len() + 1,
            "{case}"
        );
    }
}

#[test]
fn the_loop_says_what_the_reference_says() {
    let voice = Voice::open(source().as_ref());
    for case in CASES {
        let mut golden = Golden::open(case);
        let speech = speak(case, &voice);
        golden.compare_ids("talker.tokens", &speech.tokens);
        golden.compare_ids("talker.codes", &speech.codes());
        assert_eq!(speech.frames.len(), speech.tokens.len() - 1, "{case}");
        golden.compare("talker.step_hidden", &speech.hidden, MODULE);
        golden.compare("talker.step_logits", &speech.logits, LONG);
        golden.compare("talker.step_inputs_embeds", &speech.inputs, MODULE);
        golden.compare("code_predictor.logits", &speech.residual_logits, LONG);
        let axis = |axis: usize| speech.positions.iter().map(move |at| at.axes[axis][0]);
        let positions: Vec<f32> = (0..3).flat_map(axis).collect();
        golden.compare("talker.decode_position_ids", &positions, 0.0);
        let waveform = voice
            .vocoder
            .decode_chunked(&speech.codes(), speech.frames.len(), 300, 25);
        golden.compare("waveform", &waveform.expect("a waveform"), LONG);
    }
}

/// Both ends of speech occur: its own token, and the limit.
#[test]
fn speech_stops_at_its_end_and_at_the_limit() {
    let voice = Voice::open(source().as_ref());
    let golden = Golden::open("speech-stopped");
    let stopped = speak("speech-stopped", &voice);
    let end = golden.number("/generation/talker_eos").expect("an end") as u32;
    assert_eq!(stopped.tokens.last(), Some(&end));
    assert!(stopped.frames.iter().all(|frame| frame[0] != end));
    let limited = speak("speech-text", &voice);
    let limit = Golden::open("speech-text").number("/generation/talker_tokens");
    assert_eq!(Some(limited.tokens.len()), limit);
}

#[test]
fn threads_do_not_change_a_bit() {
    let voice = Voice::open(source().as_ref());
    let run = |threads| {
        with_threads(threads, || {
            let speech = speak("speech-multimodal", &voice);
            (
                bits(&speech.hidden),
                bits(&speech.residual_logits),
                speech.codes(),
            )
        })
    };
    let one = run(1);
    assert!(one == run(2), "two threads differ from one");
}

/// A row's result does not depend on how the prompt is cut into steps.
#[test]
fn steps_do_not_change_a_bit() {
    let voice = Voice::open(source().as_ref());
    let golden = Golden::open("speech-two-turns");
    let (rows, positions) = (golden.floats("talker.input_embeds"), positions(&golden));
    let hidden = voice.talker.config.text.hidden_size;
    let run = |step: usize| {
        let mut kv = voice.talker.cache(positions.len()).expect("memory");
        let mut out = Vec::new();
        for (at, rows) in rows.chunks(step * hidden).enumerate() {
            let span = at * step..at * step + rows.len() / hidden;
            let axes = positions
                .axes
                .each_ref()
                .map(|axis| axis[span.clone()].to_vec());
            let positions = Positions { axes };
            out.extend(voice.forward(rows.to_vec(), &positions, &mut kv, &mut |_, _| ()));
        }
        bits(&out)
    };
    let whole = run(positions.len());
    assert_eq!(run(1), whole);
    assert_eq!(run(7), whole);
}

/// A comparison that cannot fail compares nothing: what the goldens are meant to catch is noticed.
#[test]
fn a_changed_rule_is_noticed() {
    let mut voice = Voice::open(source().as_ref());
    let golden = Golden::open("speech-multimodal");
    let (rows, positions) = (golden.floats("talker.input_embeds"), positions(&golden));
    let off = |voice: &Voice| {
        let mut kv = voice.talker.cache(positions.len()).expect("memory");
        let found = voice.forward(rows.clone(), &positions, &mut kv, &mut |_, _| ());
        largest_error(&found, &golden.floats("talker.final_norm"))
    };
    assert!(off(&voice) < MODULE);
    voice.talker.config.text.norm_topk_prob = false;
    assert!(off(&voice) > 1e-3, "weights that are not renormalised");
    voice.talker.config.text.norm_topk_prob = true;
    let text = &voice.talker.config.text;
    voice.talker.rotary = RotaryTable::new(text.head_dim, text.rope_theta, [8, 0, 0]);
    assert!(off(&voice) > 1e-3, "positions of one axis");
    let text = &voice.talker.config.text;
    voice.talker.rotary = RotaryTable::new(text.head_dim, text.rope_theta, text.mrope_section);
    for layer in &mut voice.talker.layers {
        layer
            .post_norm
            .iter_mut()
            .for_each(|weight| *weight *= 1.01);
    }
    assert!(off(&voice) > 1e-3, "another norm");
}

#[test]
fn repetition_is_avoided_as_in_the_reference() {
    let voice = Voice::open(source().as_ref());
    let noticed = CASES.iter().any(|case| {
        let golden = Golden::open(case);
        let limits = Limits {
            penalty: 1.0,
            ..limits(&golden, &voice)
        };
        let speech = voice.speak(&prompt(&golden), &positions(&golden), &limits);
        speech.tokens != golden.ids("talker.tokens")
    });
    assert!(noticed, "no case would miss the penalty");
}

#[test]
fn sizes_are_those_of_the_files() {
    let source = source();
    let (shape, talker) = Talker::sizes(source.as_ref()).expect("sizes");
    let predictor = CodePredictor::weights_bytes(source.as_ref()).expect("sizes");
    let bytes = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        let names = source
            .tensor_names()
            .into_iter()
            .filter(|name| wanted(name));
        names
            .map(|name| source.tensor(name).expect(name).bytes)
            .sum()
    };
    let experts = bytes(&|name| name.starts_with("talker.") && name.contains(".experts."));
    let expert = source
        .expert(sage::checkpoint::Component::Talker, 0, 0)
        .expect("an expert");
    assert_eq!(shape.bytes(expert.formats), Some(expert.len_bytes));
    assert_eq!(experts, (3 * 12 * expert.len_bytes) as u64);
    assert_eq!(
        predictor,
        bytes(&|name| name.starts_with("talker.code_predictor."))
    );
    assert_eq!(
        talker + predictor + experts,
        bytes(&|name| name.starts_with("talker."))
    );
}

#[test]
fn a_model_that_does_not_speak_says_so() {
    let thinker = folder().with_file_name("tiny-thinker");
    let source = sage::store::open_model(thinker).expect("a model");
    let error = Talker::load(source.as_ref(), |_, _| ()).expect_err("no talker");
    assert!(error.to_string().contains("talker_config"), "{error}");
    assert!(CodePredictor::load(source.as_ref()).is_err());
    assert!(Talker::sizes(source.as_ref()).is_err());
    assert!(CodePredictor::weights_bytes(source.as_ref()).is_err());
}
