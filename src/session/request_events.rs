//! The events of one request.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::stream::Telemetry;
use crate::events::{Event, EventKind};

/// The events of one request, from its observation to its last word and sound.
#[derive(Debug)]
pub struct RequestEvents {
    id: u64,
    /// The last event is that of its speech.
    spoken: bool,
    events: Telemetry,
    ended: bool,
}

impl RequestEvents {
    pub(super) fn new(id: u64, spoken: bool, events: Telemetry) -> Self {
        Self {
            id,
            spoken,
            events,
            ended: false,
        }
    }

    /// The request's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The next of its events; none behind the last.
    pub async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            let event = self.events.next().await?;
            if let Some(event) = self.own(event) {
                return Some(event);
            }
        }
        None
    }

    fn own(&mut self, event: Event) -> Option<Event> {
        // What was missed may have been its last: whoever reads too slowly is told.
        let missed = matches!(event.kind, EventKind::Missed { .. });
        if !missed && event.kind.request() != Some(self.id) {
            return None;
        }
        self.ended = match &event.kind {
            EventKind::Answer { ended, .. } => !self.spoken || !ended.is_whole(),
            EventKind::Spoken(_) | EventKind::Refused { .. } | EventKind::Shed { .. } => true,
            _ => false,
        };
        Some(event)
    }
}

impl futures_core::Stream for RequestEvents {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        while !self.ended {
            let next = futures_core::Stream::poll_next(Pin::new(&mut self.events), context);
            match next {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(event)) => {
                    if let Some(event) = self.own(event) {
                        return Poll::Ready(Some(event));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}
