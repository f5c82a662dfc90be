//! What is done with every kind of event: each is one of the crate `tracing`, and a recording either holds it or gets it from the
//! mind's exchanges. Both matches name every kind.

use super::{
    AudioEvent, CacheEvent, DreamEvent, Event, EventKind, LimitEvent, Observed, PerceivedEvent,
    RunMode, SalienceEvent, SpokenEvent, Summary,
};

/// What the events' targets begin with; behind it stands the event's name, as in JSON.
#[cfg(feature = "cli")]
pub(crate) const TARGET: &str = "sage::events";

/// Names of all events.
#[cfg(feature = "cli")]
pub(crate) const NAMES: [&str; 28] = [
    "loading",
    "mode",
    "observation",
    "refused",
    "shed",
    "missed",
    "state",
    "salience",
    "directive",
    "tower",
    "perceiving",
    "perceived",
    "cache",
    "denied",
    "limit",
    "forgotten",
    "condensed",
    "recalled",
    "read",
    "progress",
    "token",
    "answer",
    "audio",
    "spoken",
    "expectation",
    "experts",
    "dream",
    "summary",
];

macro_rules! emit {
    ($level:ident, $name:literal, $tick:ident, $($field:tt)+) => {
        tracing::event!(
            name: $name,
            target: concat!("sage::events::", $name),
            tracing::Level::$level,
            $tick,
            $($field)+
        )
    };
}

impl EventKind {
    /// Whether a recording holds it. The mind's exchanges say the others already, or it never reached the loop.
    pub(crate) fn is_recorded(&self) -> bool {
        match self {
            Self::Limit(_)
            | Self::Forgotten { .. }
            | Self::Condensed { .. }
            | Self::Recalled { .. }
            | Self::Read { .. }
            | Self::Perceived(_)
            | Self::Dream(_)
            | Self::Refused { .. }
            | Self::Token { .. }
            | Self::Answer { .. }
            | Self::Audio(_)
            | Self::Spoken(_) => true,
            // What is shed never reaches the loop: its host records that.
            Self::Shed { .. }
            | Self::Progress { .. }
            | Self::Perceiving { .. }
            | Self::Loading { .. }
            | Self::Missed { .. }
            | Self::Mode(_)
            | Self::Observation(_)
            | Self::State { .. }
            | Self::Salience(_)
            | Self::Directive { .. }
            | Self::Tower { .. }
            | Self::Cache(_)
            | Self::Denied { .. }
            | Self::Expectation { .. }
            | Self::Experts(_)
            | Self::Summary(_) => false,
        }
    }
}

impl Event {
    /// Tells the subscribers of `tracing`: what is decided, answered or in force at level info, what is refused or lost as a
    /// warning, what comes with every step at debug and trace. Where nobody listens it costs one load of an atomic.
    #[rustfmt::skip] // an event a line
    pub fn emit(&self) {
        let tick = self.tick;
        match &self.kind {
            EventKind::Mode(mode) => mode.emit(tick),
            EventKind::Observation(observed) => observed.emit(tick),
            EventKind::Refused { id, kind, source, reason, .. } => emit!(WARN, "refused", tick, id, kind, source, reason),
            EventKind::Shed { id, kind, source, urgency, reason, .. } => emit!(WARN, "shed", tick, id, kind, source, urgency, ?reason),
            EventKind::Missed { events } => emit!(WARN, "missed", tick, events),
            EventKind::State { from, to, cause } => emit!(INFO, "state", tick, ?from, ?to, ?cause),
            EventKind::Salience(salience) => salience.emit(tick),
            EventKind::Directive { module, k, expert_bytes, lambda, beta, miss_bytes_per_token } => {
                emit!(DEBUG, "directive", tick, ?module, k, expert_bytes, lambda, beta, miss_bytes_per_token);
            }
            EventKind::Tower { modality, weight_bytes, drive } => emit!(DEBUG, "tower", tick, ?modality, weight_bytes, drive),
            EventKind::Perceiving { request, pieces_done, pieces } => emit!(DEBUG, "perceiving", tick, request, pieces_done, pieces),
            EventKind::Loading { layers_done, layers } => emit!(DEBUG, "loading", tick, layers_done, layers),
            EventKind::Perceived(perceived) => perceived.emit(tick),
            EventKind::Cache(cache) => cache.emit(tick),
            EventKind::Denied { request, mass, experts } => emit!(DEBUG, "denied", tick, request, mass, experts),
            EventKind::Limit(limit) => limit.emit(tick),
            EventKind::Forgotten { request, turns, left } => emit!(INFO, "forgotten", tick, request, turns, left),
            EventKind::Condensed { request, segments, left, tokens } => emit!(INFO, "condensed", tick, request, segments, left, tokens),
            EventKind::Recalled { request, segments } => emit!(INFO, "recalled", tick, request, segments),
            EventKind::Progress { request, read_tokens, prompt_tokens } => emit!(DEBUG, "progress", tick, request, read_tokens, prompt_tokens),
            EventKind::Read { id: _, request, source, tokens, mean_loss } => emit!(DEBUG, "read", tick, request, source, tokens, mean_loss),
            EventKind::Token { request, text } => emit!(TRACE, "token", tick, request, text),
            EventKind::Answer { id: _, request, question, text, tokens, ended } => {
                emit!(INFO, "answer", tick, request, question, text, tokens, ?ended);
            }
            EventKind::Audio(AudioEvent { request, samples, blake3, pcm: _ }) => {
                emit!(TRACE, "audio", tick, request, samples, blake3);
            }
            EventKind::Spoken(spoken) => spoken.emit(tick),
            EventKind::Expectation { text, met, answer } => {
                let answer = answer.as_ref().map(|answer| answer.id);
                match met {
                    true => emit!(INFO, "expectation", tick, text, met, answer),
                    false => emit!(WARN, "expectation", tick, text, met, answer),
                }
            }
            EventKind::Experts(used) => {
                let (layers, domains) = (used.layers.len(), used.domains.len());
                emit!(DEBUG, "experts", tick, layers, experts = used.experts, domains);
            }
            EventKind::Dream(dream) => dream.emit(tick),
            EventKind::Summary(summary) => summary.emit(tick),
        }
    }
}

impl RunMode {
    fn emit(&self, tick: u64) {
        let Self {
            text,
            mode,
            routing,
            eviction,
            limit_bytes,
            limit_chosen,
            limit_reason,
            floor_bytes,
            pool_bytes,
            kv_precision,
            absent_experts,
            below_cycle,
            ledger,
            fingerprint,
        } = self;
        emit!(
            INFO,
            "mode",
            tick,
            text,
            mode,
            routing,
            eviction,
            limit_bytes,
            limit_chosen,
            limit_reason,
            floor_bytes,
            pool_bytes,
            kv_precision = kv_precision.name(),
            absent_experts,
            below_cycle = below_cycle.len(),
            ledger = ledger.is_some(),
            fingerprint
        );
    }
}

impl Observed {
    fn emit(&self, tick: u64) {
        let Self {
            id,
            kind,
            source,
            urgency,
            text,
            value,
            level,
            tokens,
            perceived,
            request: _,
        } = self;
        let text = text.as_deref();
        emit!(
            INFO,
            "observation",
            tick,
            id,
            kind,
            source,
            urgency,
            text,
            value,
            level,
            tokens,
            media = perceived.len()
        );
    }
}

impl SalienceEvent {
    fn emit(&self, tick: u64) {
        let Self {
            surprise,
            novelty,
            arousal,
            reward,
            conflict,
            drive,
            atp,
            senses,
        } = self;
        emit!(
            DEBUG,
            "salience",
            tick,
            surprise,
            novelty,
            arousal,
            reward,
            conflict,
            drive,
            atp,
            senses = senses.is_some()
        );
    }
}

impl PerceivedEvent {
    fn emit(&self, tick: u64) {
        let Self {
            id: _,
            request,
            source,
            modality,
            tokens,
            pieces_kept,
            pieces_read,
            bytes_read,
            resident_bytes,
            weight_bytes,
        } = self;
        emit!(
            DEBUG,
            "perceived",
            tick,
            request,
            source,
            ?modality,
            tokens,
            pieces_kept,
            pieces_read,
            bytes_read,
            resident_bytes,
            weight_bytes
        );
    }
}

impl SpokenEvent {
    fn emit(&self, tick: u64) {
        let Self {
            request,
            ended,
            frames,
            samples,
            codes_blake3: _,
            hits,
            misses,
            miss_bytes,
            idle_ticks,
        } = self;
        emit!(
            INFO,
            "spoken",
            tick,
            request,
            ?ended,
            frames,
            samples,
            hits,
            misses,
            miss_bytes,
            idle_ticks
        );
    }
}

impl CacheEvent {
    fn emit(&self, tick: u64) {
        let Self {
            request,
            hits,
            misses,
            bytes_read,
            resident_bytes,
            resident_experts,
            capacity_bytes,
        } = self;
        emit!(
            DEBUG,
            "cache",
            tick,
            request,
            hits,
            misses,
            bytes_read,
            resident_bytes,
            resident_experts,
            capacity_bytes
        );
    }
}

impl LimitEvent {
    fn emit(&self, tick: u64) {
        let Self {
            source,
            limit_bytes,
            limit_bytes_before,
            pool_bytes,
            pool_bytes_before,
            floor_bytes,
            lacking_bytes,
        } = self;
        emit!(
            INFO,
            "limit",
            tick,
            source,
            limit_bytes,
            limit_bytes_before,
            pool_bytes,
            pool_bytes_before,
            floor_bytes,
            lacking_bytes
        );
    }
}

impl DreamEvent {
    fn emit(&self, tick: u64) {
        let Self {
            scored,
            episodes,
            unscored,
            left,
            pruned,
            bytes_read,
            saved_bytes,
            units,
            hot,
        } = self;
        emit!(
            INFO,
            "dream",
            tick,
            scored,
            episodes,
            unscored,
            left,
            pruned,
            bytes_read,
            saved_bytes,
            units,
            hot = hot.len()
        );
    }
}

impl Summary {
    fn emit(&self, tick: u64) {
        let Self {
            limit_bytes,
            peak_rss_bytes,
            limits,
            bytes_read,
            read_bytes,
            kernel_read_bytes,
            hits,
            misses,
            waits_avoided,
            dreamt: _,
            mean_loss,
            states,
            expectations_met,
            expectations_failed,
        } = self;
        emit!(
            INFO,
            "summary",
            tick,
            limit_bytes,
            peak_rss_bytes,
            limits = limits.len(),
            bytes_read,
            read_bytes = read_bytes.total,
            kernel_read_bytes,
            hits,
            misses,
            waits_avoided,
            mean_loss,
            states = states.len(),
            expectations_met,
            expectations_failed
        );
    }
}
