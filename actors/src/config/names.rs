//! What policies and states are called: in settings, on the command line, in recordings.

use std::fmt;
use std::str::FromStr;

use super::named::{Named, UnknownName};
use super::{EvictionPolicy, Retention, RoutingPolicy, TowerPolicy};
use crate::protocol::State;

impl Named for RoutingPolicy {
    const ALL: &'static [Self] = &[Self::Exact, Self::Sage, Self::Salient];

    fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sage => "sage",
            Self::Salient => "salient",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Exact => "The trained top-k",
            Self::Sage => "Logit, novelty, trust and affinity",
            Self::Salient => "The best are protected, the rest is biased by residency and salience",
        }
    }
}

impl Named for Retention {
    const ALL: &'static [Self] = &[Self::Off, Self::Salience, Self::Recency, Self::Uniform];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Salience => "salience",
            Self::Recency => "recency",
            Self::Uniform => "uniform",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Off => "Nothing beyond the context, which loses its oldest turns when it is full",
            Self::Salience => "The most salient segments",
            Self::Recency => "The newest segments",
            Self::Uniform => "A uniform sample of the segments",
        }
    }
}

impl Named for State {
    const ALL: &'static [Self] = &State::ALL;

    fn name(self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Focus => "focus",
            Self::Rest => "rest",
            Self::Dream => "dream",
            Self::Threat => "threat",
            Self::Depletion => "depletion",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Wake => "Awake, nothing in particular asked",
            Self::Focus => "A request or a strong drive",
            Self::Rest => "Little happens",
            Self::Dream => "Consolidation while nothing comes in",
            Self::Threat => "An urgent outside event: spend",
            Self::Depletion => "A resource runs out: shed load",
        }
    }
}

impl Named for TowerPolicy {
    const ALL: &'static [Self] = &[Self::None, Self::InUse, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InUse => "in_use",
            Self::All => "all",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::InUse => "Those of which something was perceived lately",
            Self::All => "All that there are",
        }
    }
}

macro_rules! by_name {
    ($($named:ty),*) => {$(
        impl FromStr for $named {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::named(name)
            }
        }
    )*};
}

by_name!(RoutingPolicy, EvictionPolicy, State, TowerPolicy);

macro_rules! shown_by_name {
    ($($named:ty),*) => {$(
        impl fmt::Display for $named {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    )*};
}

shown_by_name!(RoutingPolicy, State, TowerPolicy);

#[cfg(test)]
mod tests {
    use super::*;

    /// The names are those of the serialised form, and lead back.
    fn hold<T: Named + FromStr<Err = UnknownName> + PartialEq + fmt::Debug + serde::Serialize>() {
        for one in T::ALL {
            assert_eq!(one.name().parse::<T>().as_ref(), Ok(one));
            let written = match toml::Value::try_from(one).unwrap() {
                toml::Value::Table(table) => table.keys().next().unwrap().clone(),
                name => name.as_str().unwrap().to_owned(),
            };
            assert_eq!(written, one.name());
        }
        let error = "elsewhere".parse::<T>().unwrap_err().to_string();
        assert!(error.contains(&T::names().join(", ")), "{error}");
    }

    #[test]
    fn names_are_those_of_settings() {
        hold::<RoutingPolicy>();
        hold::<EvictionPolicy>();
        hold::<State>();
        hold::<TowerPolicy>();
        assert_eq!(EvictionPolicy::default().to_string(), "horizon(12 tokens)");
    }
}
