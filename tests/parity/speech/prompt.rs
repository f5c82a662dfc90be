//! The talker's prompt. Text rows follow from embeddings alone; rows of media need hidden states, which the speech cases
//! do not hold: these are held to the projection's formula, computed here in f64.

use sage::model::talker::{PromptError, TalkerPrompt, ThinkerTurn};
use sage::model::{Talker, Thinker};
use sage::store::WeightSource;

use super::golden::{Golden, MODULE, largest_error, source};
use super::talker::CASES;

struct Said {
    ids: Vec<u32>,
    embeddings: Vec<f32>,
    hidden: Vec<f32>,
    generated: Vec<f32>,
    tts: Vec<f32>,
    speaker: String,
}

impl Said {
    fn of(case: &str, thinker: &Thinker, talker: &Talker) -> Self {
        let golden = Golden::open(case);
        let ids = golden.ids("in.input_ids");
        let answer = golden.ids("thinker.tokens");
        let numbers = ids.len() * talker.config.thinker_hidden_size;
        Self {
            embeddings: thinker.embed(&ids).expect("rows"),
            hidden: (0..numbers).map(|at| (at as f32 * 0.37).sin()).collect(),
            generated: thinker.embed(&answer[..answer.len() - 1]).expect("rows"),
            tts: thinker.embed(&talker.tokens.tts()).expect("rows"),
            speaker: golden.text("/generation/speaker"),
            ids,
        }
    }

    fn heard(&self) -> ThinkerTurn<'_> {
        ThinkerTurn {
            ids: &self.ids,
            embeddings: &self.embeddings,
            hidden: &self.hidden,
            generated: &self.generated,
            tts: &self.tts,
            speaker: &self.speaker,
        }
    }
}

fn models() -> (Box<dyn WeightSource>, Thinker, Talker) {
    let source = source();
    let thinker = Thinker::load(source.as_ref(), |_, _| ()).expect("a thinker");
    let talker = Talker::load(source.as_ref(), |_, _| ()).expect("a talker");
    (source, thinker, talker)
}

fn numbers(source: &dyn WeightSource, name: &str) -> Vec<f64> {
    let mut bytes = vec![0; source.tensor(name).expect(name).bytes as usize];
    source.read_tensor(name, &mut bytes).expect(name);
    let number = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    bytes.chunks_exact(4).map(number).collect()
}

/// `W x + b`.
fn linear(source: &dyn WeightSource, name: &str, x: &[f64]) -> Vec<f64> {
    let weight = numbers(source, &format!("{name}.weight"));
    let bias = numbers(source, &format!("{name}.bias"));
    let product = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    let rows = weight.chunks_exact(x.len());
    rows.zip(&bias)
        .map(|(row, bias)| product(row) + bias)
        .collect()
}

fn hidden_projection(source: &dyn WeightSource, x: &[f32]) -> Vec<f32> {
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let inner = linear(source, "talker.hidden_projection.linear_fc1", &x);
    let inner: Vec<f64> = inner.into_iter().map(|x| x / (1.0 + (-x).exp())).collect();
    let out = linear(source, "talker.hidden_projection.linear_fc2", &inner);
    out.into_iter().map(|x| x as f32).collect()
}

#[test]
fn prompts_equal_the_reference() {
    let (source, thinker, talker) = models();
    let hidden = talker.config.text.hidden_size;
    let width = talker.config.thinker_hidden_size;
    for case in CASES {
        let mut golden = Golden::open(case);
        let said = Said::of(case, &thinker, &talker);
        let prompt = talker.prompt(&said.heard()).expect("a prompt");
        golden.compare_ids("talker.input_ids", &prompt.ids);
        golden.compare("talker.trailing_text_hidden", &prompt.trailing, MODULE);
        golden.compare("talker.tts_pad_embed", &prompt.tts_pad, MODULE);
        let rows = golden.floats("talker.input_embeds");
        assert_eq!(prompt.rows.len(), rows.len(), "{case}");
        // The tokens that stand for media, in order, with their hidden states.
        let mut states = said
            .ids
            .iter()
            .zip(said.hidden.chunks_exact(width))
            .filter(|(id, _)| talker.tokens.media.contains(id));
        let mut media = 0;
        let found = prompt.rows.chunks_exact(hidden);
        for ((id, found), golden_row) in prompt.ids.iter().zip(found).zip(rows.chunks(hidden)) {
            if talker.tokens.media.contains(id) {
                let (state_id, state) = states.next().expect("a state");
                assert_eq!(state_id, id, "{case}");
                let expected = hidden_projection(source.as_ref(), state);
                assert!(
                    largest_error(found, &expected) < MODULE,
                    "{case}: media row {media}"
                );
                media += 1;
            } else {
                golden.compare_with("talker.input_embeds", found, golden_row, MODULE);
            }
        }
        let has_media = case != "speech-text" && case != "speech-stopped";
        assert_eq!(media > 0, has_media, "{case}");
    }
}

#[test]
fn text_is_added_step_by_step_and_then_padding() {
    let prompt = TalkerPrompt {
        rows: vec![],
        ids: vec![],
        trailing: vec![1.0, 2.0, 3.0, 4.0],
        tts_pad: vec![9.0, 9.0],
    };
    let rows: Vec<&[f32]> = (0..4).map(|step| prompt.text_row(step)).collect();
    assert_eq!(rows, [[1.0, 2.0], [3.0, 4.0], [9.0, 9.0], [9.0, 9.0]]);
}

/// Text alone needs no hidden states, and speakers are found whatever their case.
#[test]
fn what_is_not_needed_is_not_asked_for() {
    let (_, thinker, talker) = models();
    let said = Said::of("speech-text", &thinker, &talker);
    let with = talker.prompt(&said.heard()).expect("a prompt");
    let without = ThinkerTurn {
        hidden: &[],
        speaker: "Ethan",
        ..said.heard()
    };
    assert_eq!(talker.prompt(&without).expect("a prompt"), with);
    let other = ThinkerTurn {
        speaker: "aiden",
        ..said.heard()
    };
    assert_ne!(talker.prompt(&other).expect("a prompt").rows, with.rows);
}

#[test]
fn what_does_not_fit_is_named() {
    let (_, thinker, talker) = models();
    let said = Said::of("speech-multimodal", &thinker, &talker);
    let heard = said.heard();
    let refused = |heard: ThinkerTurn<'_>| talker.prompt(&heard).expect_err("refused");

    let error = refused(ThinkerTurn {
        speaker: "nobody",
        ..heard
    });
    let text = error.to_string();
    assert!(
        text.contains("\"nobody\"") && text.contains("aiden, chelsie, ethan"),
        "{text}"
    );

    let short = ThinkerTurn {
        generated: &[],
        ..heard
    };
    assert_eq!(refused(short), PromptError::TooShort);

    let error = refused(ThinkerTurn {
        hidden: &[],
        ..heard
    });
    assert!(error.to_string().contains("hidden states"), "{error}");
    let error = refused(ThinkerTurn {
        embeddings: &heard.embeddings[1..],
        ..heard
    });
    assert!(error.to_string().contains("input embeddings"), "{error}");
    let error = refused(ThinkerTurn {
        generated: &heard.generated[1..],
        ..heard
    });
    assert!(error.to_string().contains("the answer's"), "{error}");
    let error = refused(ThinkerTurn {
        tts: &heard.tts[1..],
        ..heard
    });
    assert!(error.to_string().contains("tts_pad"), "{error}");
}

#[test]
fn a_prompt_that_does_not_open_an_answer_is_refused() {
    let (_, thinker, talker) = models();
    let said = Said::of("speech-text", &thinker, &talker);
    let refused = |ids: Vec<u32>| {
        let embeddings = thinker.embed(&ids).expect("rows");
        let heard = ThinkerTurn {
            ids: &ids,
            embeddings: &embeddings,
            hidden: &[],
            ..said.heard()
        };
        talker.prompt(&heard).expect_err("refused")
    };
    let whole = &said.ids;
    // Without its last token, with one more, without any segment, with the user's as the last one.
    let (start, last) = (talker.tokens.im_start, whole.len() - 3);
    for ids in [
        whole[..whole.len() - 1].to_vec(),
        [whole.as_slice(), &[5]].concat(),
        vec![1, 2, 3],
        vec![],
        [&whole[..last], &[start, talker.tokens.user, 5]].concat(),
        [whole.as_slice(), &[start]].concat(),
    ] {
        let error = refused(ids);
        assert!(matches!(error, PromptError::Ending { .. }), "{error}");
    }
    let mut ids = whole.clone();
    let at = ids.iter().position(|id| *id == talker.tokens.user);
    let at = at.expect("a user");
    ids[at] = 7;
    let error = refused(ids);
    assert!(matches!(error, PromptError::Role { id: 7, .. }), "{error}");
}
