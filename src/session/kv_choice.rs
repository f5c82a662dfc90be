//! How keys and values are kept, where nobody says it.

use sage_actors::config::{MindConfig, RoutingPolicy};

use crate::core::EngineError;
use crate::core::memory::BelowFloor;
use crate::input::KvPrecision;

/// The precision that was asked for, or that the routing asks for: what routes exactly rounds nothing unless it is told to,
/// whichever option or setting made it exact.
pub(super) fn asked(kv: Option<KvPrecision>, mind: &MindConfig) -> Option<KvPrecision> {
    let exact = mind.routing == RoutingPolicy::Exact;
    kv.or(exact.then_some(KvPrecision::Exact))
}

/// What `plan` makes of the precision that was `asked` for; else of the most exact one that the limit has room for.
///
/// # Errors
/// Those of `plan`; where none has room, of the one that takes the least, which is named. (With a few tokens of context that
/// is the one that rounds nothing: what is rounded is widened again to be worked with.)
pub(super) fn choose<T>(
    asked: Option<KvPrecision>,
    plan: impl Fn(KvPrecision) -> Result<T, EngineError>,
) -> Result<(KvPrecision, T), EngineError> {
    if let Some(asked) = asked {
        let planned = plan(asked).map_err(|error| named(error, asked))?;
        return Ok((asked, planned));
    }
    let [exact, rounded @ ..] = KvPrecision::ALL;
    let mut least = match plan(exact) {
        Err(EngineError::BelowFloor(below)) => with(below, exact),
        planned => return Ok((exact, planned?)),
    };
    for precision in rounded {
        match plan(precision) {
            Ok(planned) => return Ok((precision, planned)),
            Err(EngineError::BelowFloor(below)) if below.floor_bytes < least.floor_bytes => {
                least = with(below, precision);
            }
            // It takes no less, or this model's cannot be kept so.
            Err(_) => {}
        }
    }
    Err(least.into())
}

/// What `plan` makes, without a limit, of the precision that was `asked` for; else of the one that takes the least. `bytes`
/// is what a plan takes; of equals the most exact.
///
/// # Errors
/// Those of `plan`.
pub(super) fn least<T>(
    asked: Option<KvPrecision>,
    plan: impl Fn(KvPrecision) -> Result<T, EngineError>,
    bytes: impl Fn(&T) -> u64,
) -> Result<T, EngineError> {
    let [exact, rounded @ ..] = KvPrecision::ALL;
    let mut least = plan(asked.unwrap_or(exact))?;
    for precision in rounded.into_iter().filter(|_| asked.is_none()) {
        // One that this model's cannot be kept in is no choice.
        if let Ok(planned) = plan(precision)
            && bytes(&planned) < bytes(&least)
        {
            least = planned;
        }
    }
    Ok(least)
}

fn with(below: BelowFloor, precision: KvPrecision) -> BelowFloor {
    BelowFloor {
        kv_precision: Some(precision),
        ..below
    }
}

fn named(error: EngineError, precision: KvPrecision) -> EngineError {
    match error {
        EngineError::BelowFloor(below) => with(below, precision).into(),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan whose floor is so many bytes for each precision, under a limit.
    fn plan(
        floors: [u64; 3],
        limit_bytes: u64,
    ) -> impl Fn(KvPrecision) -> Result<u64, EngineError> {
        move |precision| {
            let at = KvPrecision::ALL.iter().position(|one| *one == precision);
            let floor_bytes = floors[at.unwrap_or_default()];
            match floor_bytes <= limit_bytes {
                true => Ok(floor_bytes),
                false => Err(EngineError::BelowFloor(BelowFloor {
                    limit_bytes,
                    floor_bytes,
                    context_tokens: 1,
                    kv_precision: None,
                    breakdown: String::new(),
                    chosen: None,
                })),
            }
        }
    }

    /// The floor that a refusal names, and how keys and values are kept in it.
    fn refusal(refused: Result<(KvPrecision, u64), EngineError>) -> (u64, Option<KvPrecision>) {
        match refused {
            Err(EngineError::BelowFloor(below)) => (below.floor_bytes, below.kv_precision),
            other => panic!("no refusal: {other:?}"),
        }
    }

    #[test]
    fn the_most_exact_that_fits_is_chosen_and_what_is_asked_for_is_kept_to() {
        let chosen = |limit| choose(None, plan([30, 20, 10], limit)).map(|chosen| chosen.0);
        assert_eq!(chosen(30).unwrap(), KvPrecision::Exact);
        assert_eq!(chosen(29).unwrap(), KvPrecision::Half);
        assert_eq!(chosen(10).unwrap(), KvPrecision::Quarter);
        let asked = choose(Some(KvPrecision::Exact), plan([30, 20, 10], 20));
        assert_eq!(refusal(asked), (30, Some(KvPrecision::Exact)));
    }

    /// With a context of one token rounding takes more, not less.
    #[test]
    fn what_is_refused_names_the_least_that_would_do_and_how_it_keeps_keys_and_values() {
        for (floors, least, precision) in [
            ([30, 20, 10], 10, KvPrecision::Quarter),
            ([10, 30, 20], 10, KvPrecision::Exact),
            ([10, 10, 10], 10, KvPrecision::Exact),
            ([30, 10, 20], 10, KvPrecision::Half),
        ] {
            let refused = choose(None, plan(floors, 9));
            assert_eq!(refusal(refused), (least, Some(precision)), "{floors:?}");
            assert!(choose(None, plan(floors, least)).is_ok(), "{floors:?}");
            let unlimited = self::least(None, plan(floors, u64::MAX), |floor| *floor);
            assert_eq!(unlimited.unwrap(), least, "{floors:?}");
        }
        let asked = least(
            Some(KvPrecision::Half),
            plan([30, 20, 10], u64::MAX),
            |floor| *floor,
        );
        assert_eq!(asked.unwrap(), 20);
    }

    #[test]
    fn exact_routing_rounds_nothing_unless_it_is_told_to() {
        let mut mind = MindConfig::default();
        assert_eq!(asked(None, &mind), None);
        mind.routing = RoutingPolicy::Exact;
        assert_eq!(asked(None, &mind), Some(KvPrecision::Exact));
        let told = Some(KvPrecision::Quarter);
        assert_eq!(asked(told, &mind), told);
    }
}
