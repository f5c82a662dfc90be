//! Routing that an arm is forced to: as it was recorded, or drawn to be as local.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sage_actors::config::MindConfig;
use serde::Serialize;

use super::forced::{FORESEEN, ForcedDecoder};
use crate::cli::CliError;
use crate::core::Engine;
use crate::input::path_as_text;
use crate::routes::{self, Declared, Locality, TokenRoutes};
use crate::session::exact::EXACT;
use crate::store::WeightSource;

/// Of routing that is drawn.
const SEED: u64 = 0;

/// Which routing is forced, for the report.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli) struct ForcedRouting {
    /// The recording.
    #[serde(serialize_with = "path_as_text")]
    file: PathBuf,
    /// Experts a token and layer.
    k: usize,
    /// As many as were recorded, or drawn with the recording's locality.
    drawn: bool,
    /// Tokens of the prompt and of the answer, behind which the routing begins again.
    tokens: [usize; 2],
    /// Of the next layer's experts this share is foreseen.
    foreseen: f64,
    #[serde(skip)]
    routes: Arc<TokenRoutes>,
}

impl ForcedRouting {
    /// Of the recording `file`; `drawn_k`: drawn, with so many experts a token.
    ///
    /// # Errors
    /// When it cannot be read, says nothing of single tokens, or is of a model of another shape.
    pub fn read(
        file: &Path,
        drawn_k: Option<usize>,
        source: &dyn WeightSource,
    ) -> Result<Self, CliError> {
        let wrong = |problem: String| {
            CliError::request(format!(
                "{}: {problem}: take a recording of such a model",
                file.display()
            ))
        };
        let text = &source.config().thinker.text;
        let (layers, experts) = (text.sparse_layers().collect::<Vec<_>>(), text.num_experts);
        let declared = Declared {
            model_experts: u16::try_from(experts).ok(),
            ..Declared::default()
        };
        let recording = routes::read(file, declared)?;
        let recorded = recording
            .tokens
            .map_err(|problem| CliError::request(format!("{}: {problem}", file.display())))?;
        if usize::from(recorded.experts) != experts {
            let found = recorded.experts;
            return Err(wrong(format!(
                "its layers have {found} experts; the model's have {experts}"
            )));
        }
        let recorded = recorded.of_layers(&layers).map_err(wrong)?;
        let k = drawn_k.unwrap_or(recorded.k());
        if !(1..=experts).contains(&k) {
            return Err(CliError::request(format!(
                "--routes-experts is {k}; expected 1 to {experts}"
            )));
        }
        let decoded = recorded.tokens.len() - recorded.prompt_tokens;
        let tokens = [recorded.prompt_tokens, decoded];
        let routes = match drawn_k {
            Some(k) => Locality::of(&recorded).draw(layers.len(), k, tokens, SEED),
            None => recorded,
        };
        Ok(Self {
            file: file.to_owned(),
            k,
            drawn: drawn_k.is_some(),
            tokens,
            foreseen: FORESEEN,
            routes: Arc::new(routes),
        })
    }

    /// Which experts every token has, in the sparse layers of the model; behind its last token it begins again.
    pub fn routes(&self) -> &TokenRoutes {
        &self.routes
    }

    /// Experts a token and layer.
    pub fn k(&self) -> usize {
        self.k
    }

    /// For one line.
    pub fn words(&self) -> String {
        let how = match self.drawn {
            true => "drawn with the locality of",
            false => "as recorded in",
        };
        format!(
            "routing is forced: {} experts a token, {how} {}; it is not the model's own",
            self.k,
            self.file.display()
        )
    }

    /// Holds a mind to as many experts a token as are forced.
    pub fn hold(&self, mind: &mut MindConfig, k_trained: usize) {
        let budget = mind.hold.get_or_insert(EXACT);
        budget.f = self.k as f64 / k_trained.max(1) as f64;
    }

    /// Puts it in the place of what the model's routers say.
    pub fn force(&self, engine: &mut Engine) {
        let routes = Arc::clone(&self.routes);
        engine.wrap_thinker(|thinker| Arc::new(ForcedDecoder::new(thinker, routes)));
    }
}
