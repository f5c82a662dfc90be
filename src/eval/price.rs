//! What every expert is worth: its counterfactual price on given text, and whether that price holds on other text.
//!
//! The texts are read as a mind awake reads them, exactly routed, so that the ledger learns what it learns online; then
//! every piece is scored with every expert that it used denied, and the ledger consolidates. The other text is only
//! scored: nothing of it reaches the ledger.

use std::collections::BTreeMap;

use sage_actors::protocol::{ExpertKey, Scored};
use serde::Serialize;

use super::bootstrap::{Interval, intervals};
use super::rank::spearman;
use super::{Document, EvalError};
use crate::core::reading::PrefillRun;
use crate::core::sampling::uniform;
use crate::core::shadow::{AblationSegment, AblationStep, Shadow, VARIANTS};
use crate::core::{Arrivals, Engine, EngineError, Orientation, drive};

/// Fewer scored tokens than this say too little of an expert to take part in a correlation.
const TOKENS_MIN: f64 = 16.0;

/// Of the shuffled labels.
const SEED: u64 = 0x5a6e_0001;

/// Scores by (layer, expert): tokens, and the sum of their loss increases.
type Sums = BTreeMap<(u16, u16), (f64, f64)>;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PricedExpert {
    /// Layer index in the checkpoint.
    pub layer: u16,
    pub expert: u16,
    /// Scored tokens that had used it.
    pub tokens: f64,
    /// Mean loss increase of those tokens without it, nats; none where no token used it.
    pub increase: Option<f64>,
    /// As the ledger has it.
    pub convergence: f64,
    /// As the ledger has it.
    pub trust: f64,
    /// Scored tokens of the other text.
    pub other_tokens: f64,
    /// Mean loss increase on the other text, nats.
    pub other_increase: Option<f64>,
}

/// A rank correlation with its 95 % interval over the experts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Mean over layers of Spearman's within the layer: routers compare the experts of one layer.
    pub within_layers: Option<f64>,
    /// 95 %.
    pub within_low: f64,
    /// 95 %.
    pub within_high: f64,
    /// Spearman's over all experts of the model.
    pub pooled: Option<f64>,
    /// 95 %.
    pub pooled_low: f64,
    /// 95 %.
    pub pooled_high: f64,
}

/// What the ledger believes against the denied-expert loss on other text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOutCorrelation {
    /// Experts with at least 16 scored tokens of the other text.
    pub experts: usize,
    pub trust: Correlation,
    pub convergence: Correlation,
    /// Of trust, its values dealt out anew within every layer: what no relation looks like.
    pub shuffled: Correlation,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// Which model this is of, 64 hexadecimal digits.
    pub fingerprint: String,
    /// Pieces scored for the ledger.
    pub segments: usize,
    /// Pieces of the other text.
    pub other_segments: usize,
    /// Every expert, by layer and number.
    pub experts: Vec<PricedExpert>,
    /// Where there was other text.
    pub held: Option<HeldOutCorrelation>,
    /// Bytes that the shadow runs read.
    pub bytes_read: u64,
}

/// Prices every expert on `texts`, and compares with `other`. `progress` hears of pieces done.
///
/// # Errors
/// When an expert cannot be read, or an actor failed.
pub async fn price(
    engine: &mut Engine,
    shadow: &mut Shadow,
    texts: &[Document],
    other: &[Document],
    mut progress: impl FnMut(usize),
) -> Result<Prices, EvalError> {
    let (mut own, mut others) = (Sums::new(), Sums::new());
    let mut kv = engine.new_sequence()?;
    for (done, document) in texts.iter().enumerate() {
        kv.truncate(0);
        let hidden = engine.text_config().hidden_size;
        let mut reading = PrefillRun::new(document.tokens.clone(), hidden, true);
        let mut scored = Vec::new();
        let mut whole = false;
        while !whole {
            let act = async |engine: &mut Engine, orientation: &Orientation| {
                if !reading.is_done() {
                    reading.step(engine, &mut kv, orientation).await?;
                    return Ok::<bool, EngineError>(false);
                }
                scored = score(engine, shadow, &document.tokens).await?;
                engine.learn_scores(orientation, scored.clone()).await?;
                Ok(true)
            };
            (_, whole) = drive::turn(engine, Arrivals::default(), act).await?;
        }
        add(&mut own, &scored);
        progress(done + 1);
    }
    for (done, document) in other.iter().enumerate() {
        let scored = score(engine, shadow, &document.tokens).await?;
        add(&mut others, &scored);
        progress(texts.len() + done + 1);
    }
    let experts = report(engine, &own, &others).await?;
    Ok(Prices {
        fingerprint: engine.source.fingerprint().map_err(EngineError::from)?,
        segments: texts.len(),
        other_segments: other.len(),
        held: (!other.is_empty()).then(|| held(&experts)),
        experts,
        bytes_read: shadow.bytes_read(),
    })
}

/// Scores one piece with every expert that it used denied.
async fn score(
    engine: &Engine,
    shadow: &mut Shadow,
    tokens: &[u32],
) -> Result<Vec<Scored>, EngineError> {
    let mut segment = AblationSegment::new(engine, shadow, tokens)?;
    while segment.stride(engine, shadow).await? == AblationStep::On {}
    let used = segment.used();
    let mut all = Vec::with_capacity(used.len());
    for layer in used.chunk_by(|a, b| a.layer == b.layer) {
        for batch in layer.chunks(VARIANTS) {
            let experts: Vec<u16> = batch.iter().map(|used| used.expert).collect();
            segment.deny(batch[0].layer, &experts);
            loop {
                match segment.stride(engine, shadow).await? {
                    AblationStep::On => {}
                    AblationStep::Scored(scored) => {
                        all.extend(scored);
                        break;
                    }
                    AblationStep::Based | AblationStep::Idle => break,
                }
            }
        }
    }
    Ok(all)
}

fn add(sums: &mut Sums, scored: &[Scored]) {
    for scored in scored {
        let sum = sums.entry((scored.layer, scored.expert)).or_default();
        sum.0 += f64::from(scored.tokens);
        sum.1 += scored.increase;
    }
}

async fn report(
    engine: &Engine,
    own: &Sums,
    others: &Sums,
) -> Result<Vec<PricedExpert>, EngineError> {
    let mut experts = Vec::new();
    for layer in engine.sparse_layers() {
        for expert in 0..engine.text_config().num_experts as u16 {
            let key = ExpertKey {
                layer: *layer,
                expert,
            };
            let Some(record) = engine.mind.record(key).await? else {
                continue;
            };
            let mean = |sums: &Sums| {
                let (tokens, sum) = sums
                    .get(&(layer.layer, expert))
                    .copied()
                    .unwrap_or_default();
                (tokens, (tokens > 0.0).then(|| sum / tokens))
            };
            let ((tokens, increase), (other_tokens, other_increase)) = (mean(own), mean(others));
            experts.push(PricedExpert {
                layer: layer.layer,
                expert,
                tokens,
                increase,
                convergence: record.convergence,
                trust: record.trust,
                other_tokens,
                other_increase,
            });
        }
    }
    Ok(experts)
}

/// A belief and the loss increase on other text, of the experts of one layer.
type LayerPairs = Vec<(f64, f64)>;

fn held(experts: &[PricedExpert]) -> HeldOutCorrelation {
    let known: Vec<&PricedExpert> = experts
        .iter()
        .filter(|expert| expert.other_tokens >= TOKENS_MIN)
        .collect();
    let layers = |belief: &dyn Fn(&PricedExpert) -> f64| -> Vec<LayerPairs> {
        let pair = |expert: &&PricedExpert| (belief(expert), expert.other_increase.unwrap_or(0.0));
        known
            .chunk_by(|a, b| a.layer == b.layer)
            .map(|layer| layer.iter().map(pair).collect())
            .collect()
    };
    let trust = layers(&|expert: &PricedExpert| expert.trust);
    HeldOutCorrelation {
        experts: known.len(),
        shuffled: correlation(&shuffled(&trust)),
        trust: correlation(&trust),
        convergence: correlation(&layers(&|expert: &PricedExpert| expert.convergence)),
    }
}

/// The beliefs of every layer dealt out anew among its experts.
fn shuffled(layers: &[LayerPairs]) -> Vec<LayerPairs> {
    let mut draws = 0;
    let mut shuffle = |layer: &LayerPairs| -> LayerPairs {
        let mut beliefs: Vec<f64> = layer.iter().map(|pair| pair.0).collect();
        for last in (1..beliefs.len()).rev() {
            let at = (uniform(SEED, draws) * (last + 1) as f64) as usize;
            draws += 1;
            beliefs.swap(last, at.min(last));
        }
        let losses = layer.iter().map(|pair| pair.1);
        beliefs.into_iter().zip(losses).collect()
    };
    layers.iter().map(&mut shuffle).collect()
}

fn correlation(layers: &[LayerPairs]) -> Correlation {
    let pooled: LayerPairs = layers.concat();
    let statistic = |times: &[f64]| -> [Option<f64>; 2] {
        let mut rest = times;
        let mut each = Vec::new();
        for layer in layers {
            let (own, others) = rest.split_at(layer.len());
            rest = others;
            each.extend(spearman(layer, own));
        }
        let mean = (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64);
        [mean, spearman(&pooled, times)]
    };
    let [within_layers, all] = statistic(&vec![1.0; pooled.len()]);
    let nothing = Interval {
        low: -1.0,
        high: 1.0,
    };
    let found = intervals(pooled.len(), |drawn| {
        statistic(drawn).map(|value| value.unwrap_or(0.0))
    });
    let [within, across] = found.unwrap_or([nothing; 2]);
    Correlation {
        within_layers,
        within_low: within.low,
        within_high: within.high,
        pooled: all,
        pooled_low: across.low,
        pooled_high: across.high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experts(other: impl Fn(usize) -> f64) -> Vec<PricedExpert> {
        (0..80)
            .map(|at| PricedExpert {
                layer: (at / 40) as u16,
                expert: (at % 40) as u16,
                tokens: 50.0,
                increase: Some(at as f64),
                convergence: (at % 40) as f64 / 40.0,
                trust: (at % 40) as f64 / 40.0,
                other_tokens: 50.0,
                other_increase: Some(other(at)),
            })
            .collect()
    }

    #[test]
    fn what_holds_is_told_from_what_does_not() {
        let same = held(&experts(|at| (at % 40) as f64));
        assert_eq!(same.experts, 80);
        assert!(same.trust.within_layers > Some(0.999) && same.trust.within_low > 0.9);
        let covers = |c: Correlation| c.within_low <= 0.0 && c.within_high >= 0.0;
        assert!(covers(same.shuffled), "{:?}", same.shuffled);
        let opposite = held(&experts(|at| -((at % 40) as f64)));
        assert!(opposite.trust.pooled < Some(-0.9));
    }

    #[test]
    fn experts_that_were_hardly_used_take_no_part() {
        let mut few = experts(|at| at as f64);
        few.iter_mut().skip(10).for_each(|e| e.other_tokens = 3.0);
        assert_eq!(held(&few).experts, 10);
    }
}
