//! The talker's layer, behind an answer of the thinker's.

use std::ops::ControlFlow;
use std::time::Instant;

use sage_actors::protocol::{Module, Phase, Residency};

use super::{ANSWER_TOKENS, CloseupRequest, Seen};
use crate::core::experts::{SparseLayer, SparseStep};
use crate::core::generate::{Request, generate};
use crate::core::orient::Arrivals;
use crate::core::sampling::Sampling;
use crate::core::speech::{Said, SpeechError, prompt_of, talker_positions};
use crate::core::{Engine, EngineError, Forward};
use crate::kernels::pointwise::add_scaled;

impl Engine {
    pub(super) async fn look_at_talker(
        &mut self,
        request: &CloseupRequest,
    ) -> Result<Seen, EngineError> {
        let answer = Request {
            tokens: request.tokens.clone(),
            sensed: None,
            sampling: Sampling::GREEDY,
            max_tokens: ANSWER_TOKENS,
            // An answer of fewer than two tokens has nothing to be heard.
            stop: Vec::new(),
            measure: false,
        };
        let answered = generate(self, &answer, |_, _| ControlFlow::Continue(())).await?;
        let said = answered.said.unwrap_or_default();
        self.listen_up_to(request, &said).await
    }

    async fn listen_up_to(
        &mut self,
        request: &CloseupRequest,
        said: &Said,
    ) -> Result<Seen, EngineError> {
        let prompt = prompt_of(self, said, &request.speaker)?;
        let voice = self.voice()?;
        let talker = &voice.talker;
        let (positions, _) = talker_positions(&prompt.ids, self.source.config(), &said.grids)
            .map_err(SpeechError::from)?;
        let rows = prompt.ids.len();
        let memory = |source| EngineError::System {
            what: "no memory for the talker's key-value cache".into(),
            source,
        };
        let mut kv = talker.cache(rows).map_err(memory)?;
        let orientation = self
            .orient(Arrivals {
                open_requests: 1,
                spoken_drive: Some(said.turn.drive),
                ..Arrivals::default()
            })
            .await?;
        let directives = &orientation.directives;
        let mut modules = directives.modules.iter();
        let directive = modules.find(|directive| directive.module == Module::Talker);
        let Some(directive) = directive.copied() else {
            let state = format!("{:?}", directives.state).to_lowercase();
            return Err(EngineError::Unsound(format!(
                "the talker sleeps in the state {state}: nothing is spoken there"
            )));
        };
        let step = SparseStep {
            module: Module::Talker,
            phase: Phase::Prefill,
            tick: orientation.tick,
            expert: talker.expert,
            lookahead: 0,
            felt: said.turn.felt,
            spans: &[],
        };
        let (number, hidden) = (request.layer, talker.config.text.hidden_size);
        let (mut row, mut residency) = (Vec::new(), Residency::default());
        let mut done = 0;
        while done < rows {
            let end = rows.min(done + self.step_tokens(&orientation));
            let mut x = prompt.rows[done * hidden..end * hidden].to_vec();
            let angles = talker.angles(&positions.of(done..end));
            residency = self.mind.residency(voice.layers[0]).await?;
            let mut out = Forward {
                worked: vec![Vec::new(); end - done],
                ..Forward::default()
            };
            for number in 0..number {
                talker.attend(number, &mut x, &mut kv, &angles, &mut self.scratch);
                let normed = talker.feed_forward_input(number, &x);
                let layer = SparseLayer {
                    number,
                    normed: &normed,
                    logits: talker.router_logits(number, &normed, &mut self.scratch),
                };
                self.run_sparse(&step, layer, &mut residency, &mut x, &mut out, &mut None)
                    .await?;
                let shared = talker.shared(number, &normed, &mut self.scratch);
                add_scaled(&mut x, &shared, 1.0);
            }
            talker.attend(number, &mut x, &mut kv, &angles, &mut self.scratch);
            kv.advance(end - done);
            row = x.split_off(x.len() - hidden);
            done = end;
        }
        let normed = talker.feed_forward_input(number, &row);
        let started = Instant::now();
        let logits = talker.router_logits(number, &normed, &mut self.scratch);
        let product_in = started.elapsed();
        let layer = SparseLayer {
            number,
            normed: &normed,
            logits,
        };
        let timed = self.run_apart(&step, layer, &residency).await?;
        self.idle(1);
        Ok(Seen {
            timed,
            product_in,
            rows,
            k: directive.k,
        })
    }
}
