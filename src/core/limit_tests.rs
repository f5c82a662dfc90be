//! Which limit comes of which machine.

use super::*;
use crate::core::memory::Floor;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A model with this floor, and experts beyond it.
fn plan(floor_bytes: u64, all_experts_bytes: u64) -> MemoryPlan {
    MemoryPlan {
        limit_bytes: None,
        floor: Floor {
            base_bytes: floor_bytes,
            ..Floor::default()
        },
        pool_bytes: 0,
        all_experts_bytes,
        towers_bytes: 0,
        slot_bytes: MIB,
        context_tokens: 7,
    }
}

fn machine(bounds: &[(&str, u64, u64)]) -> Machine {
    let bound = |(what, total_bytes, available_bytes): &(&str, u64, u64)| MemoryBound {
        what: (*what).to_owned(),
        total_bytes: *total_bytes,
        available_bytes: *available_bytes,
    };
    Machine {
        bounds: bounds.iter().map(bound).collect(),
        garbled: Vec::new(),
    }
}

fn refused(asked: Option<Limit>, machine: &Machine, plan: &MemoryPlan) -> String {
    resolve(asked, machine, plan)
        .expect_err("no limit")
        .to_string()
}

#[test]
fn limits_are_sizes_or_none_and_want_a_unit() {
    let cases = [
        ("none", Ok(Limit::None)),
        (" NONE ", Ok(Limit::None)),
        ("25%", Ok(Limit::Percent(25.0))),
        ("64 slots", Ok(Limit::Slots(64))),
        ("40B", Ok(Limit::Bytes(40))),
        ("1048576", Ok(Limit::Bytes(MIB))),
        ("40", Err("`40` has no unit: is it 40MiB, 40GiB,")),
        ("0", Err("no unit")),
        ("1.5", Err("no unit")),
        ("1048575", Err("no unit")),
        ("", Err("is not a size")),
        ("1.2.3", Err("is not a size")),
        ("-40", Err("is not a size")),
        ("much", Err("64slots, or none")),
    ];
    for (text, expected) in cases {
        match (text.parse::<Limit>(), expected) {
            (Ok(limit), Ok(expected)) => assert_eq!(limit, expected, "{text}"),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn a_limit_is_chosen_only_where_not_everything_fits() {
    let model = plan(600 * MIB, 16 * GIB);
    let group = ("control group /x allows", 4 * GIB, 4 * GIB - 100 * MIB);
    let whole = ("the machine has", 32 * GIB, 24 * GIB);
    let (limit, origin) = resolve(None, &machine(&[whole, group]), &model).expect("a limit");
    // 3996 MiB less 512 MiB.
    assert_eq!(limit, Limit::Bytes(3328 * MIB));
    let plan_then = model.with_limit(limit).expect("above the floor");
    assert_eq!(
        origin.line(&plan_then).as_deref(),
        Some(
            "memory: limit 3.25 GiB, chosen because control group /x allows 4.00 GiB, 3.90 GiB available, \
             less a reserve of 512.00 MiB; --limit 3328MiB repeats it, --limit none switches it off"
        )
    );
    // A little more or less available is the same limit.
    for less in [0, 50 * MIB, 100 * MIB] {
        let now = machine(&[("x", 4 * GIB, group.2 - less)]);
        assert_eq!(resolve(None, &now, &model).expect("a limit").0, limit);
    }
    // Of several the one that leaves the least, which need not be the smallest.
    let busy = machine(&[group, ("the machine has", 32 * GIB, 5 * GIB)]);
    let (limit, _) = resolve(None, &busy, &model).expect("a limit");
    assert_eq!(limit, Limit::Bytes(3 * GIB));
    // Everything fits beside a reserve of 2 GiB, or just not.
    let fits = machine(&[("the machine has", 32 * GIB, 18 * GIB + 600 * MIB)]);
    let found = resolve(None, &fits, &model).expect("no limit");
    assert_eq!(found, (Limit::None, LimitOrigin::Fits));
    let short = machine(&[("the machine has", 32 * GIB, 18 * GIB + 599 * MIB)]);
    let (limit, _) = resolve(None, &short, &model).expect("a limit");
    assert_eq!(limit, Limit::Bytes(16 * GIB + 512 * MIB));
    // Nobody knows.
    let found = resolve(None, &Machine::default(), &model).expect("no limit");
    assert_eq!(found, (Limit::None, LimitOrigin::Unknown));
}

#[test]
fn little_memory_is_divided_in_smaller_steps() {
    let model = plan(290 * MIB, GIB);
    let small = machine(&[("x", 512 * MIB, 400 * MIB)]);
    // 336 MiB are left: a whole step of 256 MiB would be below the floor.
    let (limit, _) = resolve(None, &small, &model).expect("a limit");
    assert_eq!(limit, Limit::Bytes(336 * MIB));
    let tight = machine(&[("x", 512 * MIB, 300 * MIB)]);
    let error = refused(None, &tight, &model);
    assert!(
        error.contains("a limit of 236.0 MiB, chosen because x 512.00 MiB"),
        "{error}"
    );
    assert!(error.contains("below the floor of 290.0 MiB"), "{error}");
    assert!(
        error.contains("hint: --limit 290MiB would do, if"),
        "{error}"
    );
    let hopeless = machine(&[("x", 256 * MIB, 256 * MIB)]);
    let error = refused(None, &hopeless, &model);
    assert!(error.contains("needs more memory than there is"), "{error}");
    assert!(!error.contains("would do"), "{error}");
}

#[test]
fn a_limit_above_the_machine_is_refused_with_both_numbers() {
    let model = plan(600 * MIB, 16 * GIB);
    let here = machine(&[
        ("control group /x allows", 4 * GIB, GIB),
        ("the machine has", 32 * GIB, 24 * GIB),
    ]);
    for (asked, total) in [
        // Rounded, both would be 4.00 GiB.
        (Limit::Bytes(4 * GIB + 1), "4294967296 bytes"),
        (Limit::Percent(100.0), "4.00 GiB"),
        (Limit::Slots(1 << 20), "4.00 GiB"),
    ] {
        let error = refused(Some(asked), &here, &model);
        let expected = format!("control group /x allows {total}");
        assert!(error.contains(&expected), "{error}");
        assert!(error.contains("a limit of "), "{error}");
    }
    // Half a GiB is left and the floor is above it: nothing is promised.
    let error = refused(Some(Limit::Bytes(8 * GIB)), &here, &model);
    assert!(
        error.contains("8.00 GiB") && !error.contains("would do"),
        "{error}"
    );
    let roomy = machine(&[("control group /x allows", 4 * GIB, 4 * GIB)]);
    let error = refused(Some(Limit::Bytes(8 * GIB)), &roomy, &model);
    assert!(error.contains("--limit 3584MiB would do"), "{error}");
    // What others hold now is no reason to refuse: they may give it back.
    for asked in [Limit::Bytes(4 * GIB), Limit::Slots(10), Limit::None] {
        let found = resolve(Some(asked), &here, &model).expect("taken");
        assert_eq!(found, (asked, LimitOrigin::Asked));
    }
    let unknown = resolve(Some(Limit::Bytes(1 << 60)), &Machine::default(), &model);
    assert!(unknown.is_ok(), "nothing is known to be less");
}
