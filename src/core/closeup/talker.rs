//! The talker's layer, behind an answer of the thinker's.

use sage_actors::protocol::{Module, Phase};

use super::{CloseupRequest, LayerLook};
use crate::core::drive;
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::orient::{Arrivals, Orientation};
use crate::core::probe::Listener;
use crate::core::speech::{CollectedTurn, SpeechError, TalkerStep, prompt_of, talker_positions};

impl Engine {
    pub(super) async fn look_at_talker(
        &mut self,
        request: &CloseupRequest,
    ) -> Result<LayerLook, EngineError> {
        let said = request.said.as_ref().ok_or(SpeechError::Mute)?;
        let arrivals = Arrivals {
            open_requests: 1,
            spoken_drive: Some(said.style.drive),
            ..Arrivals::default()
        };
        let act = async |engine: &mut Self, orientation: &Orientation| {
            engine.listen_up_to(request, said, orientation).await
        };
        Ok(drive::turn(self, arrivals, act).await?.1)
    }

    async fn listen_up_to(
        &mut self,
        request: &CloseupRequest,
        said: &CollectedTurn,
        orientation: &Orientation,
    ) -> Result<LayerLook, EngineError> {
        let prompt = prompt_of(self, &said.rows(), &request.speaker)?;
        let decoder = self.voice()?.decoder();
        let (positions, _) = talker_positions(&prompt.ids, self.source.config(), &said.grids)
            .map_err(SpeechError::from)?;
        let rows = prompt.ids.len();
        let mut sequence = decoder.new_sequence(rows, self.kv_precision())?;
        let directives = &orientation.directives;
        let mut modules = directives.modules.iter();
        let directive = modules.find(|directive| directive.module == Module::Talker);
        let Some(directive) = directive.copied() else {
            let state = format!("{:?}", directives.state).to_lowercase();
            return Err(EngineError::Unsound(format!(
                "the talker sleeps in the state {state}: nothing is spoken there"
            )));
        };
        let hidden = decoder.config().hidden_size;
        let mut done = 0;
        loop {
            let end = rows.min(done + self.step_tokens(orientation));
            let step = TalkerStep {
                rows: prompt.rows[done * hidden..end * hidden].to_vec(),
                positions: positions.of(done..end),
                phase: Phase::Prefill,
                tick: orientation.tick,
                directive,
                felt: said.style.felt,
            };
            let passage = self.enter_talker(step, Listener::NOBODY).await?;
            let passage = self.up_to(passage, &mut sequence, request.layer).await?;
            done = end;
            if done == rows {
                let seen = self
                    .last_row(request.layer, passage, rows, directive.k)
                    .await?;
                self.idle(1);
                return Ok(seen);
            }
        }
    }
}
