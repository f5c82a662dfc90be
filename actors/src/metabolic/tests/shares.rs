//! Who gets how much of pool and reads.

use super::*;

/// A turn that is spoken with more drive moves memory and reads to the talker; without one it sleeps.
#[test]
fn a_driven_turn_shifts_bytes_to_the_talker() {
    let both = MindConfig {
        modules: vec![thinker(), talker()],
        ..config()
    };
    let given = |spoken_drive: Option<f32>| {
        let mut controller = Controller::new(&both);
        let input = Input {
            request: true,
            ..IDLE
        };
        let assess = Assess {
            spoken_drive,
            ..assess(&input, None, 0)
        };
        let modules = controller.step(&assess).modules;
        let of = |module| modules.iter().find(|d| d.module == module).copied();
        (
            of(Module::Thinker).expect("never asleep"),
            of(Module::Talker),
        )
    };
    let (alone, asleep) = given(None);
    assert_eq!(asleep, None);
    let (calm, calm_talker) = given(Some(0.0));
    let (stirred, stirred_talker) = given(Some(1.0));
    let (calm_talker, stirred_talker) = (calm_talker.unwrap(), stirred_talker.unwrap());
    assert!(calm.expert_bytes < alone.expert_bytes);
    assert!(stirred_talker.expert_bytes > calm_talker.expert_bytes);
    assert!(stirred.expert_bytes < calm.expert_bytes);
    assert!(stirred_talker.miss_bytes_per_token > calm_talker.miss_bytes_per_token);
    assert!(stirred.miss_bytes_per_token < calm.miss_bytes_per_token);
}
