use super::*;
use crate::protocol::{Segment, TokenMeasure, TokenOrigin};

/// A segment whose tokens are predicted with loss `nll`.
fn segment(id: u64, tokens: &[u32], nll: f32) -> Remember {
    Remember {
        id,
        tokens: tokens.to_vec(),
        bytes: 100,
        segment: Segment {
            origin: TokenOrigin::Observed,
            tokens: vec![TokenMeasure { nll, entropy: 1.0 }; tokens.len()],
            mean_hidden: vec![1.0, 0.5],
            router_entropy: 0.5,
            begins_context: false,
            perceived: Vec::new(),
            experts: Vec::new(),
        },
        urgency: 0.0,
        feedback: None,
    }
}

fn config(retention: Retention) -> MemoryConfig {
    MemoryConfig {
        retention,
        store_bytes: 400,
        weights: [1.0, 0.0, 0.0, 0.0, 0.0],
        ..MemoryConfig::default()
    }
}

fn memory(retention: Retention) -> Memory {
    Memory::new(config(retention), SalienceConfig::default())
}

/// Twelve segments of four tokens, the fourth from the end the only one that surprises.
fn told(memory: &mut Memory) -> Vec<Remembered> {
    let loss = |id: u64| {
        if id == 8 {
            9.0
        } else {
            2.0 + 0.01 * (id % 3) as f32
        }
    };
    (0..12)
        .map(|id| memory.remember(&segment(id, &[1, 2, 100 + id as u32, 200], loss(id))))
        .collect()
}

#[test]
fn a_surprise_stays_in_the_context_and_in_the_store() {
    let mut memory = memory(Retention::Salience);
    let answers = told(&mut memory);
    assert!(answers[8].salience.surprise > 0.9);
    assert!(answers.iter().all(|answer| answer.forgotten.is_empty()));
    // Two of the newest, and of the others the one that surprised.
    let condense = Condense {
        tokens: 12,
        recent_tokens: 8,
    };
    assert_eq!(memory.condense(&condense), [8, 10, 11]);
    // The store has room for four: what is in the context is never forgotten, of the rest the dull and old go first.
    let answer = memory.remember(&segment(12, &[1, 2, 3, 4], 2.0));
    assert_eq!(answer.forgotten, [0, 1, 2, 3, 4, 5, 6, 7, 9]);
}

#[test]
fn retention_by_recency_keeps_the_newest_and_uniform_any() {
    let condense = Condense {
        tokens: 12,
        recent_tokens: 4,
    };
    let mut newest = memory(Retention::Recency);
    told(&mut newest);
    assert_eq!(newest.condense(&condense), [9, 10, 11]);
    let answer = newest.remember(&segment(12, &[1, 2, 3, 4], 2.0));
    assert_eq!(answer.forgotten, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut uniform = memory(Retention::Uniform);
    told(&mut uniform);
    let kept = uniform.condense(&condense);
    assert!(kept.contains(&11) && kept.len() == 3);
    assert_ne!(kept, [9, 10, 11]);
}

#[test]
fn a_question_brings_back_what_shares_its_rare_tokens() {
    let mut memory = memory(Retention::Salience);
    memory.config.store_bytes = 10_000;
    told(&mut memory);
    memory.condense(&Condense {
        tokens: 4,
        recent_tokens: 4,
    });
    // Token 1 is everywhere and says nothing; 103 is of segment 3 alone.
    let recall = |tokens, question: &[u32]| Recall {
        question: question.to_vec(),
        tokens,
    };
    assert_eq!(memory.recall(&recall(40, &[1, 2, 200])), [0u64; 0]);
    assert_eq!(memory.recall(&recall(3, &[1, 103])), [0u64; 0], "no room");
    assert_eq!(memory.recall(&recall(40, &[1, 103, 7])), [3]);
    // It is in the context now, as its newest.
    let newest = Condense {
        tokens: 4,
        recent_tokens: 4,
    };
    assert_eq!(memory.clone().condense(&newest), [3]);
    assert_eq!(memory.recall(&recall(40, &[1, 103])), [0u64; 0]);
    memory.clear();
    assert_eq!(memory.recall(&recall(40, &[104])), [0u64; 0]);
}

#[test]
fn feedback_is_on_the_segment_before_it() {
    let mut memory = memory(Retention::Salience);
    memory.config.weights = [0.0, 0.0, 0.0, 1.0, 0.0];
    told(&mut memory);
    let mut other = segment(12, &[1, 2, 3, 4], 2.0);
    (other.feedback, other.segment.mean_hidden) = (Some(1.0), vec![-0.5, 1.0]);
    memory.remember(&other);
    let condense = Condense {
        tokens: 4,
        recent_tokens: 0,
    };
    assert_eq!(memory.condense(&condense), [11], "the one that was praised");
}

#[test]
fn each_of_the_five_weights_changes_what_is_kept() {
    let memory = memory(Retention::Salience);
    let numbers = Salience {
        surprise: 0.1,
        novelty: 0.2,
        arousal: 0.3,
        reward: 0.4,
        conflict: 0.5,
    };
    for (which, number) in [0.1, 0.2, 0.3, 0.4, 0.5].into_iter().enumerate() {
        let mut memory = memory.clone();
        memory.config.weights = [0.0; 5];
        memory.config.weights[which] = 1.0;
        assert_eq!(memory.score(0, &numbers), number);
    }
}
