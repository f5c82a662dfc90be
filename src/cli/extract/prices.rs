//! `--experts price:N` and `usage:N`: the experts of every layer that a measured text misses most, or used most.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::{Checkpoint, Component};
use crate::cli::{CliError, Printer};
use crate::input::read_file_text;
use crate::store::ExpertSelection;
use crate::store::fingerprint::fingerprint;

/// Tokens at which a measured mean counts half, as in the trust ledger: few tokens say little.
const TOKENS_HALF: f64 = 256.0;

/// What experts are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RankedBy {
    /// What the tokens that used an expert lose without it.
    Price,
    /// How many tokens used it.
    Usage,
}

impl RankedBy {
    const ALL: [Self; 2] = [Self::Price, Self::Usage];

    fn name(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::Usage => "usage",
        }
    }

    /// What a value of --experts asks for, with the text of its number; none where it is no ranking by measurement.
    pub(super) fn of(text: &str) -> Option<(Self, &str)> {
        let mut found = Self::ALL.into_iter();
        found.find_map(|by| Some((by, text.strip_prefix(by.name())?.strip_prefix(':')?)))
    }

    /// Of an expert that no token used there is none.
    fn worth(self, expert: &Priced) -> Option<f64> {
        match self {
            Self::Price => {
                let evidence = expert
                    .tokens
                    .map_or(1.0, |tokens| tokens / (tokens + TOKENS_HALF));
                expert.increase.map(|increase| increase * evidence)
            }
            Self::Usage => expert.tokens,
        }
    }
}

/// The prices of the released model take a hundredth of this.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What is asked for.
pub(super) struct Ranking<'a> {
    /// `price:N` or `usage:N`.
    pub text: &'a str,
    pub by: RankedBy,
    /// N, as it was written.
    pub count: &'a str,
    /// What `sage price --json` wrote.
    pub file: Option<&'a Path>,
    pub components: &'a BTreeSet<Component>,
}

/// What of the output of `sage price --json` is used.
#[derive(Deserialize)]
struct PriceFile {
    fingerprint: Option<String>,
    experts: Vec<Priced>,
}

#[derive(Deserialize)]
struct Priced {
    layer: usize,
    expert: usize,
    /// Mean loss increase of the tokens that used it, without it, nats; none where no token did.
    increase: Option<f64>,
    /// How many did.
    tokens: Option<f64>,
}

impl Ranking<'_> {
    /// The experts to extract: the thinker's by price; those of another component have none, and are all taken.
    pub(super) fn select(
        &self,
        checkpoint: &Checkpoint,
        printer: &Printer,
    ) -> Result<ExpertSelection, CliError> {
        let text = self.text;
        let count = match self.count.parse::<usize>() {
            Ok(count) if count > 0 => count,
            _ => {
                let name = self.by.name();
                return Err(CliError::request(format!(
                    "--experts {text}: expected {name}:N with N at least 1"
                )));
            }
        };
        if !self.components.contains(&Component::Thinker) {
            return Err(CliError::request(format!(
                "--experts {text}: prices are of the thinker's experts, and the thinker is not extracted"
            )));
        }
        let Some(path) = self.file else {
            return Err(CliError::request(format!(
                "--experts {text} needs prices: make them with `sage price {} --text BOOK.txt --json > prices.json`, then add --prices prices.json",
                checkpoint.folder().display()
            )));
        };
        let wrong =
            |problem: String| CliError::request(format!("--prices {}: {problem}", path.display()));
        let content =
            read_file_text(path, MAX_FILE_BYTES).map_err(|error| wrong(error.to_string()))?;
        let prices: PriceFile = serde_json::from_str(&content)
            .map_err(|error| wrong(format!("is no output of `sage price --json`: {error}")))?;
        let found = prices.fingerprint.as_deref().ok_or_else(|| {
            wrong(
                "does not say which model it is of: make it again with `sage price --json`"
                    .to_owned(),
            )
        })?;
        let expected = fingerprint(checkpoint)?;
        if found != expected {
            return Err(wrong(format!(
                "is of another model: its fingerprint is {found}, this checkpoint's {expected}"
            )));
        }
        let mut chosen = best(checkpoint, &prices.experts, self.by, count).map_err(wrong)?;
        let unpriced = without_price(checkpoint, self.components);
        if !unpriced.is_empty() {
            printer.note(format_args!(
                "the talker's experts have no price, so all {} are extracted; --components leaves the talker out",
                unpriced.len()
            ));
        }
        chosen.extend(unpriced);
        Ok(ExpertSelection::Listed(chosen))
    }
}

type Expert = (Component, usize, usize);

/// In every sparse layer of the thinker the `count` experts of the highest rank; one that no token used comes last, and of equals
/// the lower number comes first.
fn best(
    checkpoint: &Checkpoint,
    experts: &[Priced],
    by: RankedBy,
    count: usize,
) -> Result<BTreeSet<Expert>, String> {
    let text = &checkpoint.config().thinker.text;
    let mut layers: BTreeMap<usize, Vec<&Priced>> = BTreeMap::new();
    for expert in experts {
        layers.entry(expert.layer).or_default().push(expert);
    }
    let mut chosen = BTreeSet::new();
    for layer in text.sparse_layers() {
        let priced = layers.get(&layer).map_or(&[][..], Vec::as_slice);
        let numbers: BTreeSet<usize> = priced.iter().map(|expert| expert.expert).collect();
        if priced.len() != text.num_experts || !numbers.iter().copied().eq(0..text.num_experts) {
            return Err(format!(
                "names {} experts of layer {layer}; expected each of the {} once",
                priced.len(),
                text.num_experts
            ));
        }
        let worth = |expert: &Priced| by.worth(expert).unwrap_or(f64::NEG_INFINITY);
        let mut ranked = priced.to_vec();
        ranked.sort_by(|a, b| worth(b).total_cmp(&worth(a)).then(a.expert.cmp(&b.expert)));
        let first = ranked.iter().take(count);
        chosen.extend(first.map(|expert| (Component::Thinker, layer, expert.expert)));
    }
    Ok(chosen)
}

/// All experts of selected components that are not the thinker.
fn without_price(checkpoint: &Checkpoint, components: &BTreeSet<Component>) -> BTreeSet<Expert> {
    let config = checkpoint.config();
    let others = components
        .iter()
        .filter(|component| **component != Component::Thinker);
    let mut all = BTreeSet::new();
    for &component in others {
        let Some(text) = component.text_config(config) else {
            continue;
        };
        for layer in (0..text.num_hidden_layers).filter(|at| component.is_sparse(config, *at)) {
            all.extend((0..text.num_experts).map(|expert| (component, layer, expert)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priced(tokens: Option<f64>, increase: Option<f64>) -> Priced {
        Priced {
            layer: 0,
            expert: 0,
            increase,
            tokens,
        }
    }

    #[test]
    fn a_price_counts_by_its_evidence() {
        let worth = |tokens, increase| RankedBy::Price.worth(&priced(tokens, increase));
        assert_eq!(worth(Some(256.0), Some(0.5)), Some(0.25));
        assert!(worth(Some(2.0), Some(1.0)) < worth(Some(512.0), Some(0.1)));
        assert_eq!(worth(None, Some(0.5)), Some(0.5));
        assert_eq!(worth(Some(0.0), None), None);
        assert_eq!(RankedBy::Usage.worth(&priced(Some(3.0), None)), Some(3.0));
    }

    #[test]
    fn rankings_are_told_from_files() {
        assert_eq!(RankedBy::of("price:8"), Some((RankedBy::Price, "8")));
        assert_eq!(RankedBy::of("usage:x"), Some((RankedBy::Usage, "x")));
        assert_eq!(RankedBy::of("top:8"), None);
        assert_eq!(RankedBy::of("prices.json"), None);
    }
}
