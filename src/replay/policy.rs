//! Policy-only replay: a fresh mind is asked what the recorded one was asked, and must answer the same. No weights.

use std::path::Path;
use std::sync::Arc;

use sage_actors::Mind;
use sage_actors::config::MindConfig;
use sage_actors::protocol::{Directives, Tick};

use super::comparison::Comparison;
use super::files::ledger_of;
use super::{NoWeights, ReplayError, Verdict};
use crate::trace::{Reader, Record, Tape};

/// Asks again what the recording `trace` says was asked. Inside a tokio runtime. `progress` hears of ticks.
///
/// # Errors
/// When the recording has no router logits or cannot be read, or the mind fails.
pub async fn ask_again(
    trace: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Verdict, ReplayError> {
    let (reader, header) = Reader::open(trace)?;
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
    let comparison = Comparison::new(reader)?;
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
            Record::Input { .. }
            | Record::Cut { .. }
            | Record::GivenUp { .. }
            | Record::Event { .. }
            | Record::Host { .. } => {
                comparison.pass();
            }
            Record::End { tick } => {
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
    Ok(Verdict {
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
    async fn ask(&mut self, record: Record) -> Result<(), ReplayError> {
        let mind = &self.mind;
        match record {
            Record::Salience { asked, .. } => {
                self.tick = asked.tick;
                mind.observe(asked).await?;
            }
            Record::State { mut asked, .. } => {
                asked.unconsolidated_episodes = mind.unconsolidated_episodes().await?;
                self.directives = Some(mind.assess(asked).await?);
            }
            Record::Apply { .. } => {
                let directives = self.directives.as_ref().ok_or_else(|| {
                    ReplayError::Lacks(
                        "directives are put in force before there are any".to_owned(),
                    )
                })?;
                let trust = mind.snapshot().await?;
                mind.apply(directives, &trust).await?;
            }
            Record::Route { layer, asked, .. } => {
                let route = asked.route().ok_or_else(|| {
                    ReplayError::Lacks(format!("a routing of {layer:?} has no logits"))
                })?;
                mind.route(layer, route).await?;
            }
            Record::Lease { asked, .. } => {
                let lease = mind.lease(asked).await?;
                mind.release(lease.id).await?;
            }
            Record::Learn(learned) => mind.outcome(learned.outcome()).await?,
            Record::Propose { asked, .. } => {
                mind.propose(asked).await?;
            }
            Record::Habit { asked } => mind.learn_habit(asked).await?,
            Record::Domain { state, domain, .. } => {
                mind.enter_domain(state, domain).await?;
            }
            Record::Consolidate { episodes } => mind.episodes_consolidated(episodes).await?,
            Record::Prune { .. } => {
                mind.prune_episodes().await?;
            }
            Record::Input { .. }
            | Record::Cut { .. }
            | Record::GivenUp { .. }
            | Record::Event { .. }
            | Record::Host { .. }
            | Record::End { .. } => {}
        }
        Ok(())
    }
}
