//! What a run is recorded on: hears of the mind's exchanges, and is told of what comes in and goes out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sage_actors::protocol::{LayerKey, LayerTrust, TrustSnapshot};
use sage_actors::witness::{Exchange, Witness};

use super::record::{Choice, RecordedOutcome, RecordedRoute, TraceRecord};
use super::{Chain, SCHEMA, TraceError};
use crate::media::medium::Medium;

/// Where records go.
pub trait Sink: Send {
    /// One more. What fails is kept for [`Sink::check`].
    fn put(&mut self, record: &TraceRecord);

    /// A file that an observation came with; it is kept beside the recording.
    fn keep(&mut self, _medium: &Medium) {}

    /// Called between two ticks: what was put is safe, as far as it should be.
    ///
    /// # Errors
    /// What failed since the last call.
    fn check(&mut self) -> Result<(), TraceError>;
}

/// A handle that the loop and the mind share.
#[derive(Clone)]
pub struct Tape {
    inner: Arc<Mutex<Inner>>,
    schema: u32,
}

struct Inner {
    sink: Box<dyn Sink>,
    logits: bool,
    trust: TrustDigests,
}

impl Tape {
    /// Records into `sink`, with the router logits if `logits`.
    pub fn new(sink: Box<dyn Sink>, logits: bool) -> Self {
        Self::of_schema(sink, logits, SCHEMA)
    }

    /// As [`Tape::new`], in the words of an earlier version of the format, which is being replayed.
    pub fn of_schema(sink: Box<dyn Sink>, logits: bool, schema: u32) -> Self {
        Self {
            schema,
            inner: Arc::new(Mutex::new(Inner {
                sink,
                logits,
                trust: TrustDigests::default(),
            })),
        }
    }

    /// The version of the format that it is written in.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// One more record.
    pub fn put(&self, record: &TraceRecord) {
        self.lock().sink.put(record);
    }

    /// A file that an observation came with.
    pub fn keep(&self, medium: &Medium) {
        self.lock().sink.keep(medium);
    }

    /// See [`Sink::check`].
    ///
    /// # Errors
    /// What failed since the last call.
    pub fn check(&self) -> Result<(), TraceError> {
        self.lock().sink.check()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A sink that panicked has left whole lines behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Tape {
    fn saw(&self, exchange: Exchange<'_>) {
        let mut inner = self.lock();
        let record = match exchange {
            Exchange::Salience(asked, answer) => TraceRecord::Salience {
                asked: asked.clone(),
                answer: *answer,
            },
            Exchange::State(asked, answer) => TraceRecord::State {
                asked: asked.clone(),
                answer: answer.clone(),
            },
            Exchange::Applied(trust, answer) => TraceRecord::Apply {
                trust: inner.trust.of(trust),
                answer: answer.clone(),
            },
            Exchange::Routed(layer, asked, answer) => TraceRecord::Route {
                layer,
                asked: RecordedRoute::of(asked, inner.logits),
                answer: Choice::of(answer),
            },
            Exchange::Leased(asked, answer) => TraceRecord::lease(asked, answer),
            Exchange::Learned(outcome) => TraceRecord::Learn(RecordedOutcome::of(outcome)),
            Exchange::Proposed(asked, answer) => TraceRecord::Propose {
                asked: asked.clone(),
                answer: answer.to_vec(),
            },
            Exchange::Habit(asked) => TraceRecord::Habit {
                asked: asked.clone(),
            },
            Exchange::Entered(state, domain, known) => TraceRecord::Domain {
                state,
                domain: domain.to_owned(),
                known,
            },
            Exchange::Consolidated(episodes) => TraceRecord::Consolidate { episodes },
            Exchange::Pruned(answer) => TraceRecord::Prune { answer: *answer },
            Exchange::Remembered(asked, answer) => TraceRecord::Remember {
                asked: asked.clone(),
                answer: answer.clone(),
            },
            Exchange::Condensed(asked, answer) => TraceRecord::Condense {
                asked: *asked,
                answer: answer.to_vec(),
            },
            Exchange::Recalled(asked, answer) => TraceRecord::Recall {
                asked: asked.clone(),
                answer: answer.to_vec(),
            },
            Exchange::SegmentsForgotten => TraceRecord::ForgetSegments {},
        };
        inner.sink.put(&record);
    }
}

/// Digests of trust; a layer that did not change is not gone over again.
#[derive(Default)]
struct TrustDigests {
    layers: BTreeMap<LayerKey, (Arc<LayerTrust>, Chain)>,
}

impl TrustDigests {
    /// 32 hexadecimal digits: of every layer's digest, in order; a layer's is of its numbers, little-endian.
    fn of(&mut self, trust: &TrustSnapshot) -> String {
        let mut whole = Chain::default();
        for (key, layer) in &trust.layers {
            let known = self.layers.get(key);
            let digest = match known.filter(|(seen, _)| Arc::ptr_eq(seen, layer)) {
                Some((_, digest)) => *digest,
                None => {
                    let digest = Chain::of(&numbers(layer));
                    self.layers.insert(*key, (Arc::clone(layer), digest));
                    digest
                }
            };
            whole = whole.and(digest.hex().as_bytes());
        }
        whole.hex()
    }
}

fn numbers(layer: &LayerTrust) -> Vec<u8> {
    let lists = [
        &layer.trust,
        &layer.convergence,
        &layer.stability,
        &layer.visits,
    ];
    let all = lists.into_iter().chain(&layer.affinity).flatten();
    all.flat_map(|number| number.to_le_bytes()).collect()
}
