//! Asking the memory.

use super::{ActorName, Mind, MindError, ask, never};
use crate::memory::actor::ForgetSegments;
use crate::protocol::{Condense, Recall, Remember, Remembered};
use crate::witness::Exchange;

impl Mind {
    /// A segment was read into the context: its salience, and what is forgotten to make room.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn remember(&self, remember: Remember) -> Result<Remembered, MindError> {
        let told = self.told(&remember);
        let answer = ask(&self.memory, remember, ActorName::Memory).await?;
        let answer = answer.map_err(never)?;
        if let Some((witness, remember)) = told {
            witness.saw(Exchange::Remembered(&remember, &answer));
        }
        Ok(answer)
    }

    /// The context is full: the segments that are to be read into it anew, ascending.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn condense(&self, condense: Condense) -> Result<Vec<u64>, MindError> {
        let answer = ask(&self.memory, condense, ActorName::Memory).await?;
        let answer = answer.map_err(never)?;
        if let Some(witness) = &self.witness {
            witness.saw(Exchange::Condensed(&condense, &answer));
        }
        Ok(answer)
    }

    /// Segments outside of the context that a question brings back, ascending.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn recall(&self, recall: Recall) -> Result<Vec<u64>, MindError> {
        let told = self.told(&recall);
        let answer = ask(&self.memory, recall, ActorName::Memory).await?;
        let answer = answer.map_err(never)?;
        if let Some((witness, recall)) = told {
            witness.saw(Exchange::Recalled(&recall, &answer));
        }
        Ok(answer)
    }

    /// Everything that was said is to be forgotten.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn forget_segments(&self) -> Result<(), MindError> {
        let answer = ask(&self.memory, ForgetSegments, ActorName::Memory).await?;
        answer.map_err(never)?;
        if let Some(witness) = &self.witness {
            witness.saw(Exchange::SegmentsForgotten);
        }
        Ok(())
    }
}
