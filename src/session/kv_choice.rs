//! How keys and values are kept, where nobody says it.

use crate::core::EngineError;
use crate::input::KvPrecision;

/// What `plan` makes of the precision that was `asked` for; else of the most exact one that the limit has room for.
///
/// # Errors
/// Those of `plan`; where none has room, of the one that takes the least.
pub(super) fn choose<T>(
    asked: Option<KvPrecision>,
    plan: impl Fn(KvPrecision) -> Result<T, EngineError>,
) -> Result<(KvPrecision, T), EngineError> {
    if let Some(asked) = asked {
        return Ok((asked, plan(asked)?));
    }
    let [exact, rounded @ ..] = KvPrecision::ALL;
    let mut least = match plan(exact) {
        Err(EngineError::BelowFloor(below)) => below,
        planned => return Ok((exact, planned?)),
    };
    for precision in rounded {
        match plan(precision) {
            Ok(planned) => return Ok((precision, planned)),
            Err(EngineError::BelowFloor(below)) => least = below,
            // This model's cannot be kept so.
            Err(_) => {}
        }
    }
    Err(least.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::BelowFloor;

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
                    breakdown: String::new(),
                    chosen: None,
                })),
            }
        }
    }

    #[test]
    fn the_most_exact_that_fits_is_chosen_and_what_is_asked_for_is_kept_to() {
        let chosen = |limit| choose(None, plan([30, 20, 10], limit)).map(|chosen| chosen.0);
        assert_eq!(chosen(30).unwrap(), KvPrecision::Exact);
        assert_eq!(chosen(29).unwrap(), KvPrecision::Half);
        assert_eq!(chosen(10).unwrap(), KvPrecision::Quarter);
        let refused = chosen(9).unwrap_err();
        assert!(
            matches!(refused, EngineError::BelowFloor(below) if below.floor_bytes == 10),
            "the least that would do is named"
        );
        let asked = choose(Some(KvPrecision::Exact), plan([30, 20, 10], 20));
        assert!(matches!(asked, Err(EngineError::BelowFloor(below)) if below.floor_bytes == 30));
    }
}
