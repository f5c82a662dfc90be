//! The words that a newcomer needs.

use sage_actors::protocol::{Cause, State};

/// What a state is for.
pub fn meaning(state: State) -> &'static str {
    match state {
        State::Wake => "awake, nothing in particular asked",
        State::Focus => "a request, or something striking: full attention",
        State::Rest => "little happens: few experts, little memory",
        State::Dream => "nothing comes in: what happened is consolidated",
        State::Threat => "an urgent event outside: spend what there is",
        State::Depletion => "a resource runs out: shed load and recover",
    }
}

/// The name that events use.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Wake => "wake",
        State::Focus => "focus",
        State::Rest => "rest",
        State::Dream => "dream",
        State::Threat => "threat",
        State::Depletion => "depletion",
    }
}

/// Why a state changed, in a word or two.
pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Threat => "threat",
        Cause::Overwhelming => "overwhelming",
        Cause::Exhausted => "exhausted",
        Cause::ThreatSpent => "threat spent",
        Cause::ThreatOver => "threat over",
        Cause::Tired => "tired",
        Cause::Bored => "bored",
        Cause::Request => "request",
        Cause::Drive => "drive",
        Cause::Settled => "settled",
        Cause::Quiet => "quiet",
        Cause::Awakened => "awakened",
        Cause::Consolidated => "consolidated",
        Cause::Recovered => "recovered",
    }
}

/// Why a state changed, in a sentence.
pub fn because(cause: Cause) -> &'static str {
    match cause {
        Cause::Threat => "an alarm was raised, or a sensor left its range",
        Cause::Overwhelming => "what came was overwhelming",
        Cause::Exhausted => "energy fell below what survival needs",
        Cause::ThreatSpent => "the allowance of the crisis was used up",
        Cause::ThreatOver => "the threat was over",
        Cause::Tired => "energy was low",
        Cause::Bored => "nothing striking happened for long",
        Cause::Request => "something was asked",
        Cause::Drive => "something striking came",
        Cause::Settled => "nothing was asked any more, and nothing drove it on",
        Cause::Quiet => "all was quiet, and there was something to consolidate",
        Cause::Awakened => "something came from outside",
        Cause::Consolidated => "nothing was left to consolidate",
        Cause::Recovered => "energy was back",
    }
}
