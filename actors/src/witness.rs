//! Who hears of everything that the mind is asked and answers.
//!
//! Policies are functions of the messages that reached them, in their order. So what a witness hears is all that is needed
//! to ask a fresh mind the same again, and to say where it answers otherwise.

use crate::protocol::{
    Assess, Condense, Directives, ExpertUse, Habit, LayerKey, Lease, LeaseRequest, Observe,
    Outcome, Propose, Pruned, Recall, Remember, Remembered, Residency, Route, SalienceReport,
    Selection, State, TrustSnapshot,
};

/// A question and its answer. Reading ahead is not among them: no decision sees it.
#[derive(Clone, Copy, Debug)]
pub enum Exchange<'a> {
    /// What reached the loop, and its salience.
    Salience(&'a Observe, &'a SalienceReport),
    /// How the step before went, and the state and budgets that follow.
    State(&'a Assess, &'a Directives),
    /// Directives and trust were put in force; the residency of the first sparse layer.
    Applied(&'a TrustSnapshot, &'a Residency),
    /// Router logits of a layer, and who was chosen.
    Routed(LayerKey, &'a Route, &'a Selection),
    /// A window of experts, and which of them were there.
    Leased(&'a LeaseRequest, &'a Lease),
    /// The ledger learned.
    Learned(&'a Outcome),
    /// Which experts of a recorded segment are to be scored next.
    Proposed(&'a Propose, &'a [ExpertUse]),
    /// The cache learned what a domain usually needs.
    Habit(&'a Habit),
    /// What follows is of this domain; whether its habits are known.
    Entered(State, &'a str, bool),
    /// So many of the oldest episodes were consolidated.
    Consolidated(u32),
    /// Episodes that were nearly alike were merged.
    Pruned(&'a Pruned),
    /// A segment was read; its salience, and what was forgotten for it.
    Remembered(&'a Remember, &'a Remembered),
    /// The context was full; the segments that stay.
    Condensed(&'a Condense, &'a [u64]),
    /// A question; the segments that it brought back.
    Recalled(&'a Recall, &'a [u64]),
    /// Everything that was said was forgotten.
    SegmentsForgotten,
}

/// Hears of every exchange that was answered, in the order of the answers. Must not block.
pub trait Witness: Send + Sync + 'static {
    /// One exchange.
    fn saw(&self, exchange: Exchange<'_>);
}
