//! Actions and telemetry as streams with a bound: what their reader does not take in time is counted, and said in place.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::ports::Action;
use crate::events::{Event, EventKind};

/// What can be said to be missing.
pub trait StreamItem: Sized + Clone {
    /// What stands for `count` of these before `next`, or after the last of them.
    fn gap(count: u64, last: &Self) -> Self;
}

impl StreamItem for Event {
    fn gap(count: u64, last: &Self) -> Self {
        Event {
            tick: last.tick,
            kind: EventKind::Missed { events: count },
        }
    }
}

impl StreamItem for Action {
    fn gap(count: u64, _: &Self) -> Self {
        Action::Missed { actions: count }
    }
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    /// Items that did not fit, and what says so.
    lost: u64,
    gap: Option<T>,
    closed: bool,
    /// Who waits for the next item.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Ring<T> {
    queue: Mutex<Queue<T>>,
    bound: usize,
}

/// What a panic elsewhere left is still whole: every change here is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: StreamItem> Ring<T> {
    fn push(&self, item: &T) {
        let mut queue = lock(&self.queue);
        let needed = 1 + usize::from(queue.lost > 0);
        if queue.items.len() + needed <= self.bound {
            queue.lost = 0;
            let gap = queue.gap.take();
            queue.items.extend(gap);
            queue.items.push_back(item.clone());
        } else {
            queue.lost += 1;
            queue.gap = Some(T::gap(queue.lost, item));
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn pop(&self) -> (Option<T>, bool) {
        let mut queue = lock(&self.queue);
        let item = queue.items.pop_front().or_else(|| {
            queue.lost = 0;
            queue.gap.take()
        });
        (item, queue.closed)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        match self.pop() {
            (Some(item), _) => return Poll::Ready(Some(item)),
            (None, true) => return Poll::Ready(None),
            (None, false) => {}
        }
        lock(&self.queue).waker = Some(context.waker().clone());
        // What came in between has woken nobody.
        match self.pop() {
            (Some(item), _) => Poll::Ready(Some(item)),
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }
}

/// Items in order, as they happen. It holds a bounded number of them; those beyond are left out, and where they are
/// missing an item says how many.
#[derive(Debug)]
pub struct SessionStream<T>(Arc<Ring<T>>);

/// Every event: what `sage run --json` writes.
pub type Telemetry = SessionStream<Event>;

/// What the loop does.
pub type Actions = SessionStream<Action>;

impl<T: StreamItem> SessionStream<T> {
    /// The next item; none once the loop has ended and everything was taken. It may be dropped at any time without loss.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|context| self.0.poll(context)).await
    }

    /// The next item, if there is one now.
    pub fn try_next(&mut self) -> Option<T> {
        self.0.pop().0
    }
}

/// Its items as any other stream's: with `futures::StreamExt` it is mapped, filtered and joined.
impl<T: StreamItem> futures_core::Stream for SessionStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll(context)
    }
}

/// Those who listen. Nothing is kept for nobody.
#[derive(Debug)]
pub(super) struct Hub<T> {
    rings: Mutex<(Vec<Weak<Ring<T>>>, bool)>,
    bound: usize,
}

impl<T: StreamItem> Hub<T> {
    /// Every stream of it will hold `bound` items.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            rings: Mutex::default(),
            bound,
        }
    }

    /// Another one who listens from now on.
    pub(super) fn subscribe(&self) -> SessionStream<T> {
        let mut rings = lock(&self.rings);
        let ring = Arc::new(Ring {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                lost: 0,
                gap: None,
                closed: rings.1,
                waker: None,
            }),
            bound: self.bound,
        });
        rings.0.retain(|ring| ring.strong_count() > 0);
        rings.0.push(Arc::downgrade(&ring));
        SessionStream(ring)
    }

    pub(super) fn publish(&self, item: &T) {
        for ring in lock(&self.rings).0.iter().filter_map(Weak::upgrade) {
            ring.push(item);
        }
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        let mut rings = lock(&self.rings);
        rings.1 = true;
        for ring in rings.0.iter().filter_map(Weak::upgrade) {
            ring.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tick: u64) -> Event {
        let text = String::new();
        Event {
            tick,
            kind: EventKind::Token { request: 0, text },
        }
    }

    fn told(stream: &mut Telemetry) -> Vec<(u64, Option<u64>)> {
        std::iter::from_fn(|| stream.try_next())
            .map(|event| match event.kind {
                EventKind::Missed { events } => (event.tick, Some(events)),
                _ => (event.tick, None),
            })
            .collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let hub = Hub::new(4);
        let mut stream = hub.subscribe();
        for tick in 0..10 {
            hub.publish(&event(tick));
        }
        assert_eq!(stream.try_next().map(|event| event.tick), Some(0));
        // One place is not enough for the event and for what says that others are missing.
        hub.publish(&event(10));
        assert_eq!(stream.try_next().map(|event| event.tick), Some(1));
        hub.publish(&event(11));
        let left = [(2, None), (3, None), (10, Some(7)), (11, None)];
        assert_eq!(told(&mut stream), left);
        for tick in 20..26 {
            hub.publish(&event(tick));
        }
        let left = [
            (20, None),
            (21, None),
            (22, None),
            (23, None),
            (25, Some(2)),
        ];
        assert_eq!(told(&mut stream), left);
        assert_eq!(told(&mut stream), []);
    }

    #[tokio::test]
    async fn a_stream_ends_when_everything_was_taken() {
        let hub = Hub::new(4);
        let mut stream = hub.subscribe();
        hub.publish(&event(3));
        hub.close();
        assert_eq!(stream.next().await.map(|event| event.tick), Some(3));
        assert!(stream.next().await.is_none());
        assert!(hub.subscribe().next().await.is_none());
    }

    #[test]
    fn nothing_is_kept_for_those_who_left() {
        let hub = Hub::new(4);
        for _ in 0..100 {
            drop(hub.subscribe());
        }
        assert!(lock(&hub.rings).0.len() <= 1);
        hub.publish(&event(0));
    }
}
