//! What the loop does with a tick in Rest or Dream when nothing waits: it scores recorded tokens with experts denied,
//! and in Dream consolidates the episodes that are scored.
//!
//! A tick works within a bucket of its own (units of one exact token, as the energy's) and a number of strides, so that
//! an input never waits for more than that; what was begun goes on in a later tick. What it reads is bounded by what habits
//! save, to within one stride: what has no bytes left to be scored with is consolidated as it is.

use std::collections::BTreeSet;

use sage_actors::metabolic::pace::{BATCHES, CAPACITY_UNITS, pace};
use sage_actors::protocol::{Module, Propose, State};

use super::conductor::CoreLoop;
use super::sleeping::Piece;
use crate::core::shadow::{AblationSegment, AblationStep, Shadow, VARIANTS};
use crate::core::{EngineError, Orientation};
use crate::events::{Event, EventKind};

impl CoreLoop {
    /// One idle tick.
    pub(super) async fn sleep(
        &mut self,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let Some(pace) = pace(orientation.directives.state) else {
            return Ok(());
        };
        let stats = self.engine.mind.cache_stats().await?;
        let has_habits = self.minding.dreaming.has_consolidated();
        self.minding.dreaming.account.credit(&stats, has_habits);
        self.minding.dreaming.bucket.step(pace.refill_units, 0.0);
        let mut finished = 0;
        for _ in 0..pace.strides {
            if !self.stride(orientation, &mut finished).await? {
                break;
            }
        }
        if pace.consolidate {
            if self.minding.dreaming.account.is_empty() {
                self.minding.dreaming.pass_over();
            }
            self.consolidate().await?;
        }
        let since = &self.minding.dreaming.since;
        if finished > 0 || since.episodes > 0 || since.pruned > 0 {
            self.report_dream(sink).await?;
        }
        Ok(())
    }

    /// One stride of a shadow run; whether there was one and the bucket covered it.
    async fn stride(
        &mut self,
        orientation: &Orientation,
        finished: &mut u32,
    ) -> Result<bool, EngineError> {
        if self.minding.dreaming.account.is_empty() {
            return Ok(false);
        }
        if self.minding.dreaming.shadow.is_none() {
            self.minding.dreaming.shadow = Some(Shadow::new(&self.engine, 1)?);
        }
        let Some(mut shadow) = self.minding.dreaming.shadow.take() else {
            return Ok(false);
        };
        let before = shadow.bytes_read();
        let strode = self.stride_with(&mut shadow, orientation, finished).await;
        let read = shadow.bytes_read() - before;
        self.minding.dreaming.account.spend(read);
        self.minding.dreaming.since.bytes_read += read;
        self.minding.dreaming.shadow = Some(shadow);
        strode
    }

    async fn stride_with(
        &mut self,
        shadow: &mut Shadow,
        orientation: &Orientation,
        finished: &mut u32,
    ) -> Result<bool, EngineError> {
        let mut piece = match self.minding.dreaming.piece.take() {
            Some(piece) => piece,
            None => match self.minding.dreaming.episodes.next_piece() {
                Some((episode, tokens)) => Piece {
                    episode,
                    segment: AblationSegment::new(&self.engine, shadow, tokens)?,
                    denied: BTreeSet::new(),
                    batches: 0,
                },
                None => return Ok(false),
            },
        };
        let cost = piece
            .segment
            .cost(self.engine.text_config().num_hidden_layers);
        if self.minding.dreaming.bucket.level() < cost.min(CAPACITY_UNITS) {
            self.minding.dreaming.piece = Some(piece);
            return Ok(false);
        }
        self.minding.dreaming.bucket.step(0.0, cost);
        self.minding.dreaming.since.units += cost;
        let stride = piece.segment.stride(&self.engine, shadow).await?;
        let on = stride == AblationStep::On;
        if let AblationStep::Scored(scored) = stride {
            self.minding.dreaming.since.scored += scored.len() as u32;
            let denied = scored.iter().map(|scored| (scored.layer, scored.expert));
            piece.denied.extend(denied);
            self.engine.learn_scores(orientation, scored).await?;
        }
        if on || self.begin_batch(&mut piece).await? {
            self.minding.dreaming.piece = Some(piece);
        } else {
            self.minding.dreaming.episodes.piece_scored(piece.episode);
            *finished += 1;
        }
        Ok(true)
    }

    /// Asks the mind whom to deny next; whether there is anyone left for this piece.
    async fn begin_batch(&self, piece: &mut Piece) -> Result<bool, EngineError> {
        if piece.batches == BATCHES {
            return Ok(false);
        }
        piece.batches += 1;
        let mut used = piece.segment.used();
        used.retain(|used| !piece.denied.contains(&(used.layer, used.expert)));
        let propose = Propose {
            module: Module::Thinker,
            used,
            most: VARIANTS,
        };
        let proposed = self.engine.mind.propose(propose).await?;
        let Some(first) = proposed.first() else {
            return Ok(false);
        };
        let experts: Vec<u16> = proposed.iter().map(|used| used.expert).collect();
        piece.segment.deny(first.layer, &experts);
        Ok(true)
    }

    /// Consolidates the oldest episodes that are scored; prunes memory when none is left.
    async fn consolidate(&mut self) -> Result<(), EngineError> {
        let mut done = self.minding.dreaming.episodes.take_forgotten();
        while let Some(habit) = self.minding.dreaming.episodes.take_scored() {
            self.engine.mind.learn_habit(habit).await?;
            self.minding.dreaming.since.episodes += 1;
            done += 1;
        }
        if done > 0 {
            self.engine.mind.episodes_consolidated(done).await?;
            self.minding.dreaming.unpruned = true;
            // What was told of the domain may be known better now.
            self.present.domain = None;
        }
        if self.minding.dreaming.unpruned && self.minding.dreaming.episodes.is_empty() {
            self.minding.dreaming.unpruned = false;
            self.minding.dreaming.since.pruned += self.engine.mind.prune_episodes().await?.merged;
        }
        Ok(())
    }

    async fn report_dream(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        let mut event = std::mem::take(&mut self.minding.dreaming.since);
        event.left = self.minding.dreaming.episodes.len() as u32;
        event.hot = if event.episodes > 0 {
            let habits = self.engine.mind.habits().await?;
            let hot = |(domain, state, _, experts)| (domain, state, experts);
            habits.into_iter().map(hot).collect()
        } else {
            Vec::new()
        };
        let saved_bytes = self.minding.dreaming.account.saved_bytes();
        let total = &mut self.minding.dreaming.total;
        event.saved_bytes = saved_bytes - total.saved_bytes;
        total.saved_bytes = saved_bytes;
        total.unscored += event.unscored;
        total.left = event.left;
        total.scored += event.scored;
        total.episodes += event.episodes;
        total.pruned += event.pruned;
        total.bytes_read += event.bytes_read;
        total.units += event.units;
        sink(Event {
            tick: self.engine.tick(),
            kind: EventKind::Dream(event),
        });
        Ok(())
    }

    /// Tells the mind which domain the next step belongs to, where that is news and it has habits.
    pub(super) async fn enter_domain(
        &mut self,
        domain: &str,
        state: State,
    ) -> Result<(), EngineError> {
        let news = self
            .present
            .domain
            .as_ref()
            .is_none_or(|(known, of)| known.as_str() != domain || *of != state);
        if news && self.minding.dreaming.has_consolidated() {
            self.present.domain = Some((domain.to_owned(), state));
            self.engine
                .mind
                .enter_domain(state, domain.to_owned())
                .await?;
        }
        Ok(())
    }
}
