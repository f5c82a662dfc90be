//! Spans of the body: what takes time, and where. A span costs one load of an atomic where nobody listens, and no decision
//! depends on one.
//!
//! A span begins where its constructor is called and ends where the last handle is dropped; whoever awaits inside one
//! [instruments](tracing::Instrument) the future and enters nothing. Who listens is the program's matter, or the host's.

use sage_actors::protocol::{ExpertKey, LayerKey, Module, Tick};
use tracing::{Span, debug_span, trace_span};

use crate::reads::ReadPurpose;

const TICK: &str = "sage::core::tick";
const ORIENT: &str = "sage::core::orient";
const LAYER: &str = "sage::core::layer";
const ATTENTION: &str = "sage::model::attention";
const ROUTE: &str = "sage::core::route";
const LEASE: &str = "sage::core::lease";
const WORK: &str = "sage::core::work";
const READ: &str = "sage::cpu::read";
const WAIT: &str = "sage::cpu::wait";
const HEAD: &str = "sage::model::head";
const PIECE: &str = "sage::model::piece";
const FRAME: &str = "sage::core::frame";
const CHUNK: &str = "sage::core::chunk";
const STRIDE: &str = "sage::core::stride";
const LOAD: &str = "sage::model::load";

/// Targets of all spans. The last part of each is the span's name.
#[cfg(feature = "cli")]
pub(crate) const TARGETS: [&str; 15] = [
    TICK, ORIENT, LAYER, ATTENTION, ROUTE, LEASE, WORK, READ, WAIT, HEAD, PIECE, FRAME, CHUNK,
    STRIDE, LOAD,
];

/// One tick of the loop, or one step of a generation or of a reading without a loop.
pub(crate) fn tick(tick: Tick) -> Span {
    debug_span!(target: TICK, "tick", tick)
}

/// Asking the mind how to run the next step.
pub(crate) fn orient(tick: Tick) -> Span {
    debug_span!(target: ORIENT, "orient", tick)
}

/// One layer: attention, routing, experts.
pub(crate) fn layer(module: Module, layer: usize) -> Span {
    debug_span!(target: LAYER, "layer", ?module, layer)
}

/// The attention of a layer.
pub(crate) fn attention(module: Module, layer: usize) -> Span {
    trace_span!(target: ATTENTION, "attention", ?module, layer)
}

/// A layer's router being asked, until its actor has answered.
pub(crate) fn route(of: LayerKey) -> Span {
    trace_span!(target: ROUTE, "route", module = ?of.module, layer = of.layer)
}

/// A window of experts being leased, until the cache's actor has answered.
pub(crate) fn lease(of: LayerKey, experts: usize) -> Span {
    trace_span!(target: LEASE, "lease", module = ?of.module, layer = of.layer, experts)
}

/// Arithmetic of experts of a window that are in memory.
pub(crate) fn work(of: LayerKey, experts: usize) -> Span {
    trace_span!(target: WORK, "work", module = ?of.module, layer = of.layer, experts)
}

/// One expert being read and checked; `bytes` is what its slot takes.
pub(crate) fn read(key: ExpertKey, purpose: ReadPurpose, bytes: Option<usize>) -> Span {
    let ExpertKey { layer, expert } = key;
    trace_span!(
        target: READ, "read", module = ?layer.module, layer = layer.layer, expert, ?purpose, bytes
    )
}

/// Arithmetic that waits until an expert has been read.
pub(crate) fn wait(key: ExpertKey) -> Span {
    let ExpertKey { layer, expert } = key;
    trace_span!(target: WAIT, "wait", module = ?layer.module, layer = layer.layer, expert)
}

/// Logits over the vocabulary.
pub(crate) fn head(rows: usize) -> Span {
    trace_span!(target: HEAD, "head", rows)
}

/// A piece of the audio or the vision tower, its read included.
pub(crate) fn piece(tower: &'static str, piece: usize) -> Span {
    debug_span!(target: PIECE, "piece", tower, piece)
}

/// One frame of speech: a step of the talker, and the code predictor.
pub(crate) fn frame(frame: usize) -> Span {
    debug_span!(target: FRAME, "frame", frame)
}

/// Frames of speech that become sound.
pub(crate) fn chunk(first: usize, frames: usize) -> Span {
    debug_span!(target: CHUNK, "chunk", first, frames)
}

/// One layer of a shadow run.
pub(crate) fn stride(tokens: usize) -> Span {
    debug_span!(target: STRIDE, "stride", tokens)
}

/// What stays in memory of a layer being loaded.
pub(crate) fn load(module: Module, layer: usize) -> Span {
    debug_span!(target: LOAD, "load", ?module, layer)
}
