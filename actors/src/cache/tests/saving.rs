//! What habits save is what a cache without them would have missed more.

use super::*;

/// Experts that a token of a mixed day wants in a layer: 0 and 1 often, one of the others now and then.
fn wanted(token: u64, rank: u16) -> [u16; 2] {
    let mixed = token
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(u32::from(rank) * 7 + 11);
    match mixed % 3 {
        0 => [0, 1],
        1 => [0, 2 + (mixed >> 8) as u16 % 4],
        _ => [1, 2 + (mixed >> 8) as u16 % 4],
    }
}

fn day(cache: &mut Cache, tokens: std::ops::Range<u64>) {
    for token in tokens {
        for rank in 0..LAYERS {
            let lease = cache.lease(&request(token, rank, &wanted(token, rank)));
            cache.release(lease.unwrap().id).unwrap();
        }
    }
}

#[test]
fn what_habits_save_is_what_a_cache_without_them_misses_more() {
    let often = |layer: u16| {
        [0, 1].map(|expert| ExpertUse {
            layer,
            expert,
            tokens: 66,
        })
    };
    let habit = Habit {
        module: Module::Thinker,
        state: State::Focus,
        domain: "book".into(),
        tokens: 100,
        uses: [1, 4, 5].into_iter().flat_map(often).collect(),
    };
    let (mut with, _) = cache(HORIZON, 8, 0);
    let (mut without, _) = cache(HORIZON, 8, 0);
    day(&mut with, 0..60);
    day(&mut without, 0..60);
    assert_eq!(with.stats(), without.stats());
    with.consolidate(&habit).unwrap();
    assert!(with.enter("book", State::Focus));
    day(&mut with, 60..400);
    day(&mut without, 60..400);
    let saved = without.stats().miss_bytes as i64 - with.stats().miss_bytes as i64;
    assert_ne!(saved, 0, "habits change who is in memory");
    assert_eq!(with.stats().habits_saved_bytes, saved);
    // Where nothing is known of what follows, nothing is saved.
    assert!(!with.enter("other", State::Focus));
    day(&mut with, 400..500);
    assert_eq!(with.stats().habits_saved_bytes, saved);
    assert_eq!(without.stats().habits_saved_bytes, 0);
}
