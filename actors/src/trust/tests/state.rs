//! A ledger that is kept and restored is the ledger that it was.

use proptest::prelude::*;

use super::*;
use crate::trust::state::{KeptRecord, LedgerState};
use crate::trust::store::{EPOCH_TICKS, Epochs};

/// A change that must be refused, and what is said of it.
type Case<'a, T> = (&'a dyn Fn(&mut T), &'a str);

/// Everything that can be seen of a ledger. Written out, so that also 0 and −0 differ.
fn seen(ledger: &mut Ledger) -> String {
    format!("{:?}\n{:?}", ledger.state(), ledger.snapshot())
}

fn learned(mut ledger: Ledger, outcomes: &[Outcome]) -> Ledger {
    for outcome in outcomes {
        ledger.learn(outcome).unwrap();
    }
    ledger
}

proptest! {
    #[test]
    fn a_restored_ledger_goes_on_bit_for_bit(
        outcomes in prop::collection::vec(steps(), 0..120),
        kept_after in 0usize..120,
        is_warm in any::<bool>(),
    ) {
        let start = if is_warm { warm() } else { ledger() };
        let (before, after) = outcomes.split_at(kept_after.min(outcomes.len()));
        let mut whole = learned(start.clone(), &outcomes);
        let kept = learned(start, before).state();
        let mut restored = learned(Ledger::restore(kept).unwrap(), after);
        prop_assert_eq!(seen(&mut whole), seen(&mut restored));
    }
}

#[test]
fn a_state_that_no_ledger_can_have_is_refused_by_name() {
    let used = token(1.0, 1.0, &[(3, 1, 0.5)]);
    let sound = learned(warm(), &[outcome(State::Wake, 9, vec![used])]).state();
    assert!(Ledger::restore(sound.clone()).is_ok());
    let cases: [Case<'_, LedgerState>; 7] = [
        (
            &|state| state.modules[0].head.refresh = 3,
            "modules[0].refresh is 3; expected 0 to 2",
        ),
        (
            &|state| state.modules[0].head.layers.reverse(),
            "modules[0].layers is unsorted",
        ),
        (
            &|state| state.modules[0].head.layers.clear(),
            "modules[0].layers is 0; expected 1 to 65535",
        ),
        (
            &|state| state.modules[0].head.clock = f64::NAN,
            "modules[0].clock is NaN",
        ),
        (
            &|state| state.modules[0].head.clock = 0.0,
            "modules[0].clock of layer 3 expert 1 is",
        ),
        (
            &|state| _ = state.modules[0].records.pop(),
            "modules[0].records is 11; expected 12",
        ),
        (
            &|state| state.modules.push(state.modules[0].clone()),
            "modules[1].module is thinker; expected each module once",
        ),
    ];
    for (wrong, expected) in cases {
        let mut state = sound.clone();
        wrong(&mut state);
        let error = Ledger::restore(state).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_record_that_no_expert_can_have_is_refused_by_name() {
    let cases: [Case<'_, TrustRecord>; 6] = [
        (
            &|record| record.convergence = 1.5,
            "convergence is 1.5; expected 0 to 1",
        ),
        (&|record| record.stability = f64::NAN, "stability is NaN"),
        (&|record| record.visits = -1.0, "visits is -1"),
        (&|record| record.regret = f64::INFINITY, "regret is inf"),
        (
            &|record| record.judged.successes = 1.0,
            "judged: successes is 1; expected at most its trials, 0",
        ),
        (
            &|record| record.by_state[5].trials = -0.5,
            "by_state of Depletion: trials is -0.5",
        ),
    ];
    assert!(KeptRecord::try_from(TrustRecord::default()).is_ok());
    for (wrong, expected) in cases {
        let mut record = TrustRecord::default();
        wrong(&mut record);
        let error = KeptRecord::try_from(record).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn epochs_end_with_another_state_and_after_so_many_ticks() {
    let mut epochs = Epochs::default();
    let mut ends = |state, ticks| epochs.ends_with(&outcome(state, ticks, vec![]));
    let most = EPOCH_TICKS as u32;
    assert!(!ends(State::Wake, 1), "the first state is no other state");
    assert!(!ends(State::Wake, most - 2));
    assert!(ends(State::Wake, 1));
    assert!(!ends(State::Wake, most - 1), "counted anew");
    assert!(ends(State::Focus, 0));
    assert!(!ends(State::Focus, most - 1), "counted anew");
    assert!(ends(State::Focus, 1));
}
