//! Where routed experts are, and work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sage_actors::protocol::{ExpertKey, ExpertSource, LayerKey, LeasedExpert};

use super::decoder::{DecoderError, HiddenRows};
use super::names::component_name;

/// Outputs of experts, a row each, that are asked for at the same time, and so exist at the same time; where one row asks for
/// more experts than that, its own.
pub const EXPERT_ROWS: usize = 512;

/// Why an expert is not in its slot.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{component} expert {} of layer {} cannot be read: {reason}", key.expert, key.layer.layer)]
pub struct ExpertReadError {
    /// Expert whose record could not be read.
    pub key: ExpertKey,
    /// The component's name in file names.
    pub component: &'static str,
    /// What happened, and what to do.
    pub reason: String,
}

/// A host that does not answer any more, or answers what it was not asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{} expert {} of layer {} has no host any more: {host} says: {reason}; nothing is lost that was learned: see to {host}, then run again, or open the model with experts of this machine",
    component_name(*key), key.expert, key.layer.layer
)]
pub struct LostHost {
    /// The host's own name.
    pub host: String,
    /// The first expert that it was asked for and did not run.
    pub key: ExpertKey,
    /// What happened.
    pub reason: String,
}

/// Why experts did not work.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// One of them cannot be read.
    #[error(transparent)]
    Read(#[from] ExpertReadError),
    /// The record of an expert does not have the model's shape.
    #[error(
        "the record of {} expert {} of layer {} is too short for its shape: extract it again",
        component_name(*.0), .0.expert, .0.layer.layer
    )]
    ShortRecord(ExpertKey),
    /// The host is gone.
    #[error(transparent)]
    Lost(#[from] LostHost),
    /// The rows cannot be fetched from where they are.
    #[error(transparent)]
    Rows(#[from] DecoderError),
    /// The system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

/// One expert of a lease, and the rows that it is to work on.
#[derive(Clone, Copy, Debug)]
pub struct ExpertTask<'a> {
    /// Which expert, and the slot that the mind gave it.
    pub leased: LeasedExpert,
    /// Rows of the layer's input, ascending.
    pub rows: &'a [usize],
}

/// What one expert gave.
pub struct ExpertOutput {
    /// Number of the expert in its layer.
    pub expert: u16,
    /// One output for every row of its task, in order, `[rows, hidden]`: `down(silu(gate(x)) * up(x))`, not weighted.
    pub values: Box<dyn HiddenRows>,
    /// What it took to read it, where the host knows. Telemetry: no decision reads it.
    pub read_in: Option<Duration>,
    /// What its arithmetic took. Telemetry.
    pub ran_in: Duration,
}

/// Experts at work.
pub type HostFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + 'a>>;

/// What a host holds, and what waiting for it came to. Telemetry: no decision reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostUsage {
    /// Bytes of this process's memory that experts take now.
    pub held_bytes: usize,
    /// Time that callers waited for reads since the start.
    pub stall_time: Duration,
}

/// A place where routed experts work on rows: slots of this machine's memory, a device, another machine.
///
/// The mind's cache says through [`Self::source`] which expert is to be in which slot; the core then hands over rows for
/// experts that are leased, which stay in their slots until the lease is given back.
pub trait ExpertHost: Send + Sync {
    /// Its name in messages.
    fn name(&self) -> &str;

    /// What the cache tells the body.
    fn source(&self) -> Arc<dyn ExpertSource>;

    /// Runs leased experts of `layer` on rows of `x`, its normed input: what is there is to be computed while the rest
    /// comes. One output for each task, in any order.
    ///
    /// A host answers in finite time: one that waits for another machine has a deadline, and says [`HostError::Lost`]
    /// when it has passed. It may try again as often as it likes before that; an expert's output depends on its rows
    /// alone. The caller gives the lease back whatever the answer is.
    ///
    /// # Errors
    /// When an expert cannot be read, or the host is lost.
    fn work<'a>(
        &'a self,
        layer: LayerKey,
        tasks: &'a [ExpertTask<'a>],
        x: &'a dyn HiddenRows,
    ) -> HostFuture<'a, Vec<ExpertOutput>>;

    /// The same experts once more, beside the mind's: `slots` of them are kept, at least one, and reads of them count as
    /// those of shadow runs.
    ///
    /// # Errors
    /// When the host cannot give them.
    fn shadow(&self, slots: usize) -> Result<Box<dyn ShadowExperts>, HostError>;

    /// Blocks until everything that was asked for has come: what is counted then is all of it.
    fn finish_reads(&self);

    /// What it holds now.
    fn usage(&self) -> HostUsage;
}

/// Experts that no residency hears of.
pub trait ShadowExperts: Send {
    /// Runs one expert on rows of `x`, the normed input of its layer; it is read unless it is in a slot.
    ///
    /// # Errors
    /// When it cannot be read, or the host is lost.
    fn work<'a>(
        &'a mut self,
        key: ExpertKey,
        rows: &'a [usize],
        x: &'a dyn HiddenRows,
    ) -> HostFuture<'a, ExpertOutput>;

    /// Bytes read so far.
    fn bytes_read(&self) -> u64;
}
