//! What a rendering can still pay for.

use minijinja::{Error, ErrorKind, State};

use super::value::UNIT_BYTES;

/// Bytes that a rendering can still pay for.
pub(super) fn room(state: &State) -> usize {
    state.fuel_levels().map_or(usize::MAX, |(_, left)| {
        usize::try_from(left)
            .unwrap_or(usize::MAX)
            .saturating_mul(UNIT_BYTES)
    })
}

/// Refuses what a rendering cannot pay for, before it is made.
pub(super) fn demand(state: &State, bytes: usize) -> Result<(), Error> {
    if bytes > room(state) {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    Ok(())
}
