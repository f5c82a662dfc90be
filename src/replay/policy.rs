//! Policy-only replay: a fresh mind is asked what the recorded one was asked, and must answer the same. No weights.

use std::path::Path;
use std::sync::Arc;

use sage_actors::Mind;
use sage_actors::config::MindConfig;
use sage_actors::protocol::{Directives, Tick};

use super::comparison::ReplayComparison;
use super::files::ledger_of;
use super::{NoWeights, ReplayError, ReplayVerdict};
use crate::trace::{Tape, TraceReader, TraceRecord};

/// Asks again what the recording `trace` says was asked. Inside a tokio runtime. `progress` hears of ticks.
///
/// # Errors
/// When the recording has no router logits or cannot be read, or the mind fails.
pub async fn ask_again(
    trace: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<ReplayVerdict, ReplayError> {
    let (reader, header) = TraceReader::open(trace)?;
    if !header.logits {
        return Err(ReplayError::Lacks(
            "the recording has no router logits, so that no mind can be asked again: record with --record-logits, or \
             replay with the model (--verify)"
                .to_owned(),
        ));
    }
    let ledger = ledger_of(trace, &header)?;
    let config = MindConfig {
        absent: header.absent,
        ..header.mind
    };
    let mut mind = Mind::spawn(config, Arc::new(NoWeights))?;
    if let Some((ledger, _)) = ledger {
        mind.resume_trust(ledger).await?;
    }
    let comparison = ReplayComparison::new(reader)?;
    let tape = Tape::new(Box::new(comparison.clone()), true);
    mind.watch(Arc::new(tape));
    let mut again = Again {
        mind,
        directives: None,
        tick: 0,
    };
    let mut whole = false;
    while let Some(record) = comparison.next()? {
        match record {
            TraceRecord::Input { .. }
            | TraceRecord::Cut { .. }
            | TraceRecord::GivenUp { .. }
            | TraceRecord::Event { .. }
            | TraceRecord::Host { .. } => {
                comparison.pass();
            }
            TraceRecord::End { tick } => {
                (whole, again.tick) = (true, tick);
                comparison.pass();
            }
            asked => {
                again.ask(asked).await?;
                progress(again.tick);
            }
        }
    }
    again.mind.shutdown().await;
    let (lines, digest, difference) = comparison.so_far();
    Ok(ReplayVerdict {
        equal: difference.is_none(),
        lines,
        ticks: again.tick,
        whole,
        digest,
        difference,
    })
}

struct Again {
    mind: Mind,
    /// The mind's own last ones.
    directives: Option<Directives>,
    tick: Tick,
}

impl Again {
    /// Asks one question; the tape compares the answer.
    async fn ask(&mut self, record: TraceRecord) -> Result<(), ReplayError> {
        let mind = &self.mind;
        match record {
            TraceRecord::Salience { asked, .. } => {
                self.tick = asked.tick;
                mind.observe(asked).await?;
            }
            TraceRecord::State { mut asked, .. } => {
                asked.unconsolidated_episodes = mind.unconsolidated_episodes().await?;
                self.directives = Some(mind.assess(asked).await?);
            }
            TraceRecord::Apply { .. } => {
                let directives = self.directives.as_ref().ok_or_else(|| {
                    ReplayError::Lacks(
                        "directives are put in force before there are any".to_owned(),
                    )
                })?;
                let trust = mind.snapshot().await?;
                mind.apply(directives, &trust).await?;
            }
            TraceRecord::Route { layer, asked, .. } => {
                let route = asked.route().ok_or_else(|| {
                    ReplayError::Lacks(format!("a routing of {layer:?} has no logits"))
                })?;
                mind.route(layer, route).await?;
            }
            TraceRecord::Lease { asked, .. } => {
                let lease = mind.lease(asked).await?;
                mind.release(lease.id).await?;
            }
            TraceRecord::Learn(learned) => mind.outcome(learned.outcome()).await?,
            TraceRecord::Propose { asked, .. } => {
                mind.propose(asked).await?;
            }
            TraceRecord::Habit { asked } => mind.learn_habit(asked).await?,
            TraceRecord::Domain { state, domain, .. } => {
                mind.enter_domain(state, domain).await?;
            }
            TraceRecord::Consolidate { episodes } => mind.episodes_consolidated(episodes).await?,
            TraceRecord::Prune { .. } => {
                mind.prune_episodes().await?;
            }
            TraceRecord::Remember { asked, .. } => {
                mind.remember(asked).await?;
            }
            TraceRecord::Condense { asked, .. } => {
                mind.condense(asked).await?;
            }
            TraceRecord::Recall { asked, .. } => {
                mind.recall(asked).await?;
            }
            TraceRecord::ForgetSegments {} => mind.forget_segments().await?,
            TraceRecord::Input { .. }
            | TraceRecord::Cut { .. }
            | TraceRecord::GivenUp { .. }
            | TraceRecord::Event { .. }
            | TraceRecord::Host { .. }
            | TraceRecord::End { .. } => {}
        }
        Ok(())
    }
}
