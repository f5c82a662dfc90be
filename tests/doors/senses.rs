//! Sounds in the running engine: what they shift, and that exactness does not depend on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::fixture;
use crate::common::sounds::{hum, siren};
use sage::core::perception::{DecodedMedia, expand, placeholder};
use sage::core::ports::TowerUse;
use sage::core::reading::PrefillRun;
use sage::core::scene::Scene;
use sage::core::{Arrivals, Engine, Limit, Orientation};
use sage::media::medium::{Medium, MediumKind};
use sage::session::opening::{EngineOptions, open};
use sage_actors::config::{MindConfig, StateBudget};
use sage_actors::protocol::{Modality, Phase, Segment, Senses, State};

/// Focus for good, with Wake's weight of salience.
fn focused() -> MindConfig {
    let mut mind = MindConfig::default();
    let budget = StateBudget {
        salience_bias: mind.budgets.wake.salience_bias,
        ..mind.budgets.focus
    };
    mind.hold = Some(budget);
    mind.hold_state = Some(State::Focus);
    mind
}

async fn hearing(limit: Limit, mind: MindConfig) -> Engine {
    let source = sage::store::open_model(fixture("tiny-omni")).unwrap();
    let options = EngineOptions {
        limit,
        context_tokens: 64,
        chunk_tokens: Some(16),
        mind,
        senses: vec![Modality::Audio],
        media_tokens: 32,
        ..EngineOptions::default()
    };
    open(Arc::from(source), options, |_, _| ()).await.unwrap()
}

/// A sound that was heard.
struct Heard {
    orientation: Orientation,
    scene: Arc<Scene>,
    tokens: Vec<u32>,
    /// Of the audio tower.
    before: TowerUse,
    after: TowerUse,
    segment: Segment,
}

/// Tells the mind of a sound, and lets the model perceive it in a context of its own.
async fn hear(engine: &mut Engine, sound: Vec<u8>, carried: Option<Segment>) -> Heard {
    let sensed: DecodedMedia = engine.sense(&[Medium::sound(sound)], 0.0).unwrap();
    let config = engine.source.config().thinker.clone();
    let place = placeholder(&config, MediumKind::Sound).unwrap();
    // Some words, of which the trust ledger learns who works for words.
    let words: Vec<u32> = (20..32).collect();
    let tokens = expand(&config, &[&words, &place[..]].concat(), &sensed);
    let arrivals = Arrivals {
        tokens_in: tokens.len() as u32,
        events_in: 1,
        segment: carried,
        stimuli: sensed.stimuli.clone(),
        perceiving: vec![Modality::Text, Modality::Audio],
        ..Arrivals::default()
    };
    let orientation = engine.orient(arrivals).await.unwrap();
    let felt = orientation.report.senses;
    let before = engine.towers().usage(Modality::Audio);
    let features = &sensed.features;
    let scene = engine
        .perceive(&tokens, features, felt, &mut |_: &str, _: &[f32]| {})
        .unwrap();
    let after = engine.towers().usage(Modality::Audio);
    let hidden = engine.text_config().hidden_size;
    let mut kv = engine.new_sequence().unwrap();
    let mut reading = PrefillRun::of_scene(tokens.clone(), Some(Arc::clone(&scene)), hidden, true);
    while !reading.is_done() {
        reading.step(engine, &mut kv, &orientation).await.unwrap();
    }
    Heard {
        orientation,
        scene,
        tokens,
        before,
        after,
        segment: reading.segment(),
    }
}

/// Ten quiet hums, and then this one.
async fn after_hums(engine: &mut Engine, last: Vec<u8>) -> Heard {
    let mut carried = None;
    for variant in 0..10 {
        let heard = hear(engine, hum(0.02, variant), carried).await;
        carried = Some(heard.segment);
    }
    hear(engine, last, carried).await
}

/// Who is admitted for the tokens of a sound that felt like this; nothing is learned from it.
async fn admitted(
    engine: &mut Engine,
    heard: &Heard,
    felt: Option<Senses>,
) -> (Vec<BTreeSet<(u16, u16)>>, usize) {
    let scene = Scene {
        felt,
        ..(*heard.scene).clone()
    };
    let chunk = sage::core::forward::TokenChunk {
        tokens: &heard.tokens,
        scene: Some((&scene, 0)),
        pieces: &[],
    };
    let mut kv = engine.new_sequence().unwrap();
    let forward = engine
        .forward_chunk(&mut kv, chunk, Phase::Prefill, &heard.orientation, None)
        .await
        .unwrap();
    let row = |worked: &Vec<_>| {
        let key = |one: &sage_actors::protocol::Worked| (one.layer, one.expert);
        worked.iter().map(key).collect()
    };
    (
        forward.work.worked.iter().map(row).collect(),
        forward.denials.count,
    )
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(future))
}

/// The same inputs but for the last sound, which is louder and stranger: memory moves from the experts to the ears, as measured.
#[test]
fn a_louder_and_stranger_sound_shifts_bytes_to_hearing() {
    run(async {
        let mut found = Vec::new();
        for last in [hum(0.02, 3), siren(0.9)] {
            let mut engine = hearing(Limit::Slots(50), focused()).await;
            let heard = after_hums(&mut engine, last).await;
            let stats = engine.mind.cache_stats().await.unwrap();
            let tower = heard.orientation.directives.towers[0];
            let read = heard.after.counts.bytes_read - heard.before.counts.bytes_read;
            println!(
                "drive {:.2}: may keep {}, keeps {}, read {read}; experts {} of {}",
                tower.drive,
                tower.weight_bytes,
                heard.after.resident_bytes,
                stats.resident_bytes,
                heard.orientation.directive.expert_bytes
            );
            assert!(heard.after.resident_bytes <= tower.weight_bytes);
            assert!(stats.resident_bytes <= heard.orientation.directive.expert_bytes);
            let senses = heard.orientation.report.senses.unwrap();
            found.push((tower, heard.after, stats.resident_bytes, senses));
            engine.shutdown().await;
        }
        let [
            (calm, calm_use, calm_experts, quiet),
            (stirred, stirred_use, stirred_experts, loud),
        ] = &found[..]
        else {
            panic!("two runs");
        };
        assert!(stirred.drive > 0.5 && calm.drive < 0.2);
        assert!(stirred.weight_bytes > calm.weight_bytes);
        assert!(stirred_use.resident_bytes > calm_use.resident_bytes);
        assert!(stirred_experts < calm_experts);
        let (quiet, loud) = (quiet.audio.unwrap(), loud.audio.unwrap());
        assert!(
            quiet.salience.arousal < 0.1 && quiet.surprise_t < 0.3,
            "{quiet:?}"
        );
        assert!(
            loud.salience.arousal > 0.9 && loud.surprise_t > 0.9,
            "{loud:?}"
        );
    });
}

/// Its tokens carry how it felt into the thinker's routers, and other experts are admitted for them.
#[test]
fn a_stranger_sound_admits_other_experts() {
    run(async {
        let mut engine = hearing(Limit::None, focused()).await;
        let heard = after_hums(&mut engine, siren(0.9)).await;
        let felt = heard.orientation.report.senses;
        let (dull, dull_denied) = admitted(&mut engine, &heard, None).await;
        let (strange, strange_denied) = admitted(&mut engine, &heard, felt).await;
        let of = |wanted: Modality| {
            let pairs = dull.iter().zip(&strange).zip(&heard.scene.modalities);
            let of_it = pairs.filter(|(_, modality)| **modality == wanted);
            let (all, other) = of_it.fold((0, 0), |(all, other), ((a, b), _)| {
                (all + 1, other + usize::from(a != b))
            });
            (other, all)
        };
        let (words, sounds) = (of(Modality::Text), of(Modality::Audio));
        println!(
            "other experts for {sounds:?} tokens of sound and {words:?} words; choices that the exact router would not have made: \
             {dull_denied} and {strange_denied}"
        );
        assert_eq!(
            words.0, 0,
            "the words carry their own salience, and come first"
        );
        assert!(sounds.0 > 0);
        assert!(strange_denied > dull_denied);
        engine.shutdown().await;
    });
}

/// Who works for a sound is counted, so that its experts are not for ever new.
#[test]
fn experts_that_work_for_a_sound_are_visited() {
    run(async {
        let mut engine = hearing(Limit::None, focused()).await;
        let heard = hear(&mut engine, hum(0.02, 0), None).await;
        let (rows, _) = admitted(&mut engine, &heard, None).await;
        let view = engine.mind.snapshot().await.unwrap();
        let of_sound = rows.iter().zip(&heard.scene.modalities);
        let of_sound = of_sound.filter(|(_, modality)| **modality == Modality::Audio);
        let worked: BTreeSet<(u16, u16)> = of_sound.flat_map(|(row, _)| row).copied().collect();
        assert!(!worked.is_empty());
        for (layer, expert) in worked {
            let key = sage_actors::protocol::LayerKey {
                module: sage_actors::protocol::Module::Thinker,
                layer,
            };
            let visits = view.layers[&key].visits[usize::from(expert)];
            assert!(visits > 0.0, "expert {expert} of layer {layer}");
        }
        engine.shutdown().await;
    });
}

/// What a tower may keep changes what is read and nothing else.
#[test]
fn what_is_heard_does_not_depend_on_memory() {
    run(async {
        let mut outputs: Vec<Vec<u32>> = Vec::new();
        for limit in [Limit::Slots(0), Limit::Slots(40), Limit::None] {
            let mut mind = focused();
            sage::session::exact::apply_exact_mode(&mut mind);
            let mut engine = hearing(limit, mind).await;
            let heard = after_hums(&mut engine, siren(0.5)).await;
            println!("{limit:?}: {:?}", heard.after);
            outputs.push(heard.scene.embeds.iter().map(|x| x.to_bits()).collect());
            let read = heard.after.counts.bytes_read - heard.before.counts.bytes_read;
            match limit {
                Limit::None => assert_eq!(read, 0, "all of it is in memory"),
                Limit::Slots(0) => assert_eq!(heard.after.resident_bytes, 0),
                _ => assert!(read > 0 && heard.after.resident_bytes > 0),
            }
            engine.shutdown().await;
        }
        assert!(outputs.iter().all(|output| *output == outputs[0]));
        assert!(!outputs[0].is_empty());
    });
}

#[test]
fn what_cannot_be_perceived_is_refused_with_what_to_do() {
    run(async {
        let source: Arc<dyn sage::store::WeightSource> =
            Arc::from(sage::store::open_model(fixture("tiny-omni")).unwrap());
        let deaf = open(Arc::clone(&source), EngineOptions::default(), |_, _| ())
            .await
            .unwrap();
        let sound = Medium::sound(hum(0.1, 0));
        let refused = deaf
            .sense(std::slice::from_ref(&sound), 0.0)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("opened without its audio tower"),
            "{refused}"
        );
        deaf.shutdown().await;

        let engine = hearing(Limit::None, focused()).await;
        let refused = |medium: Medium| engine.sense(&[medium], 0.0).unwrap_err().to_string();
        assert!(refused(Medium::picture(*b"x")).contains("without its vision tower"));
        assert!(refused(Medium::sound(*b"x")).contains("not a sound file"));
        let long = crate::common::sounds::wav((0..16_000 * 9).map(|_| 0.1));
        let refused = refused(Medium::sound(long));
        assert!(refused.contains("expected at most 3 s"), "{refused}");
        // Each is short enough, and together they are not.
        let many = engine.sense(&[sound.clone(), sound.clone(), sound.clone()], 0.0);
        let refused = many.unwrap_err().to_string();
        assert!(refused.contains("takes 39 tokens"), "{refused}");
        // Two places and one sound.
        let sensed = engine.sense(&[sound], 0.0).unwrap();
        let config = engine.source.config().thinker.clone();
        let place = placeholder(&config, MediumKind::Sound).unwrap();
        let tokens = expand(&config, &[place, place].concat(), &sensed);
        let refused = engine.media_positions(&tokens, &sensed.features);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("give as many"), "{refused}");
        engine.shutdown().await;
    });
}
