//! The one place where the loop turns: the mind is told what arrived and asked how the step is to be run, then the step is run.

use tracing::Instrument;

use super::orient::{Arrivals, Orientation};
use super::{Engine, EngineError};
use crate::spans;

/// One turn of whoever holds the engine: `act` works under the orientation that the mind gives on `arrivals`.
///
/// # Errors
/// When an actor failed, and what `act` returns.
pub async fn turn<H, T, E>(
    holder: &mut H,
    arrivals: Arrivals,
    act: impl AsyncFnOnce(&mut H, &Orientation) -> Result<T, E>,
) -> Result<(Orientation, T), E>
where
    H: AsMut<Engine>,
    E: From<EngineError>,
{
    let span = spans::tick(holder.as_mut().tick());
    let turn = async {
        let orientation = holder.as_mut().orient(arrivals).await?;
        let done = act(holder, &orientation).await?;
        Ok((orientation, done))
    };
    turn.instrument(span).await
}
