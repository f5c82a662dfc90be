//! The actor around a [`Ledger`].

use std::convert::Infallible;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::state::LedgerState;
use super::{ExpertTrust, Ledger, TrustError};
use crate::protocol::{ExpertKey, ExpertUse, Outcome, Propose, TrustSnapshot};

/// The trust ledger as an actor. Stops at its first error.
#[derive(Actor)]
pub struct TrustLedger(pub Ledger);

/// Asks for an immutable view.
pub struct Snapshot;

impl Message<Snapshot> for TrustLedger {
    type Reply = Result<TrustSnapshot, Infallible>;

    async fn handle(&mut self, _: Snapshot, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.snapshot())
    }
}

impl Message<Outcome> for TrustLedger {
    type Reply = Result<(), TrustError>;

    async fn handle(&mut self, msg: Outcome, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0.learn(&msg).inspect_err(|_| ctx.stop())
    }
}

/// Asks for everything that the ledger knows.
pub struct GetState;

impl Message<GetState> for TrustLedger {
    type Reply = Result<LedgerState, Infallible>;

    async fn handle(&mut self, _: GetState, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.state())
    }
}

/// Puts a ledger that was kept in the place of this one.
pub struct Resume(pub Ledger);

impl Message<Resume> for TrustLedger {
    type Reply = Result<(), Infallible>;

    async fn handle(&mut self, msg: Resume, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0 = msg.0;
        Ok(())
    }
}

impl Message<Propose> for TrustLedger {
    type Reply = Result<Vec<ExpertUse>, TrustError>;

    async fn handle(&mut self, msg: Propose, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0.propose(&msg).inspect_err(|_| ctx.stop())
    }
}

/// Asks for the record of one expert.
pub struct GetRecord(pub ExpertKey);

impl Message<GetRecord> for TrustLedger {
    type Reply = Result<Option<ExpertTrust>, Infallible>;

    async fn handle(&mut self, msg: GetRecord, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.record(msg.0))
    }
}
