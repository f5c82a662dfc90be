//! Options whose value is the name of one of a few.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use sage_actors::config::Named;

/// Reads such a name; the help lists all of them, each with what it is, and so does the message on another name.
pub fn by_name<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let values = T::ALL
        .iter()
        .map(|one| PossibleValue::new(one.name()).help(one.summary()));
    PossibleValuesParser::new(values).try_map(|name| T::named(&name))
}
