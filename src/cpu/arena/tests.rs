use super::*;
use crate::formats::{GatedFormats, WeightFormat};
use crate::host_memory::{has_huge_pages, round_up_to_page};
use sage_actors::protocol::{LayerKey, Module};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

struct Counting {
    reads: AtomicU32,
    fail_first: u32,
}

impl RecordReader for Counting {
    fn find(&self, key: ExpertKey) -> Result<ExpertLocation, ExpertReadError> {
        if key.expert == NO_SUCH {
            return Err(ExpertReadError {
                key,
                component: "thinker",
                reason: "it is nowhere".into(),
            });
        }
        // From the thousandth on they are larger, from the two thousandth on they lie in huge pages.
        Ok(record(match key.expert {
            ..1_000 => 10_000,
            1_000..2_000 => 20_000,
            _ => 300_000,
        }))
    }
    fn read(
        &self,
        _: ReadPurpose,
        key: ExpertKey,
        record: &ExpertLocation,
        memory: &mut Mapped,
    ) -> Result<(), ExpertReadError> {
        assert_eq!(memory.len(), record.len_bytes);
        if self.reads.fetch_add(1, Ordering::SeqCst) < self.fail_first {
            return Err(ExpertReadError {
                key,
                component: "thinker",
                reason: "told to fail".into(),
            });
        }
        memory.pages_mut().fill(key.expert as u8);
        Ok(())
    }
}

/// An expert that the reader does not find.
const NO_SUCH: u16 = 999;

fn record(len_bytes: usize) -> ExpertLocation {
    ExpertLocation {
        formats: GatedFormats::all(WeightFormat::F16),
        hidden: 0,
        intermediate: 0,
        len_bytes,
        segments: Vec::new(),
        crc32: None,
        header: None,
    }
}

fn arena(fail_first: u32) -> Arc<SlotArena> {
    SlotArena::new(Arc::new(Counting {
        reads: AtomicU32::new(0),
        fail_first,
    }))
    .expect("a thread")
}

fn key(expert: u16) -> ExpertKey {
    ExpertKey {
        layer: LayerKey {
            module: Module::Thinker,
            layer: 0,
        },
        expert,
    }
}

#[test]
fn an_admitted_expert_arrives_and_its_memory_goes_back() {
    let arena = arena(0);
    arena.admit(key(7), SlotId(3), false);
    arena.settle();
    assert_eq!(
        arena.wait(key(7), SlotId(3)).expect("read").bytes()[9_999],
        7
    );
    assert!(arena.read_in(SlotId(3)).is_some());
    assert_eq!(arena.mapped_bytes(), 12_288);
    arena.evict(SlotId(3));
    arena.settle();
    assert_eq!(arena.mapped_bytes(), 12_288, "it is to spare");
    assert!(
        arena.wait(key(7), SlotId(3)).is_err(),
        "an evicted expert is not served"
    );
}

#[test]
fn memory_goes_back_but_for_what_the_next_reads_may_want() {
    let arena = arena(0);
    let all: Vec<u16> = (0..6).collect();
    for expert in &all {
        arena.admit(key(*expert), SlotId(u32::from(*expert)), false);
    }
    for expert in &all {
        assert!(arena.wait(key(*expert), SlotId(u32::from(*expert))).is_ok());
        arena.evict(SlotId(u32::from(*expert)));
    }
    arena.settle();
    assert_eq!(arena.mapped_bytes(), SPARE * 12_288);
}

/// What stays moves together, so that whole huge pages go back; what is in use stays where it is until it is not. So does what
/// is kept for the next reads, whichever places it has.
#[test]
fn records_move_together_where_memory_goes_back() {
    memory_goes_back_from_the_end(false);
    memory_goes_back_from_the_end(true);
}

fn memory_goes_back_from_the_end(last_first: bool) {
    let arena = arena(0);
    let slot = |expert: u16| SlotId(u32::from(expert - 2_000));
    let all: Vec<u16> = (2_000..2_040).collect();
    for expert in &all {
        arena.admit(key(*expert), slot(*expert), false);
        // One after another: places in order.
        arena.finish_reads();
    }
    let place = round_up_to_page(300_000);
    assert_eq!(arena.mapped_bytes(), 40 * place);
    // The first of every four stay, and of them the last is in use.
    let (stay, mut go): (Vec<u16>, Vec<u16>) = all.iter().partition(|expert| *expert % 4 == 0);
    if last_first {
        go.reverse();
    }
    let used = arena.wait(key(2_036), slot(2_036)).expect("read");
    for expert in &go {
        arena.evict(slot(*expert));
    }
    arena.settle();
    let held = (stay.len() + SPARE) * place;
    assert_eq!(arena.mapped_bytes() > held, has_huge_pages());
    drop(used);
    for _ in 0..100 {
        arena.settle();
    }
    assert_eq!(arena.mapped_bytes(), held);
    for expert in &stay {
        let record = arena.wait(key(*expert), slot(*expert)).expect("read");
        assert!(record.bytes().iter().all(|byte| *byte == *expert as u8));
    }
}

/// Slots of a second module begin far behind those of the first: what is between takes no memory.
#[test]
fn slots_may_be_numbered_with_gaps() {
    let arena = arena(0);
    let far = SlotId(u32::MAX);
    arena.admit(key(9), far, false);
    arena.settle();
    assert!(arena.wait(key(9), far).is_ok());
    assert!(arena.wait(key(9), SlotId(1 << 24)).is_err());
    assert_eq!(lock(&arena.shared).slots.len(), 1);
}

#[test]
fn one_failure_is_retried_two_are_an_error() {
    let once = arena(1);
    once.admit(key(1), SlotId(0), false);
    assert!(once.wait(key(1), SlotId(0)).is_ok());
    let twice = arena(2);
    twice.admit(key(1), SlotId(0), false);
    let error = twice.wait(key(1), SlotId(0)).expect_err("two failures");
    assert!(error.to_string().contains("expert 1 of layer 0"), "{error}");
}

#[test]
fn a_slot_that_moved_on_does_not_get_the_older_read() {
    let arena = arena(0);
    for expert in 0..50 {
        arena.admit(key(expert), SlotId(0), expert % 2 == 0);
        if expert % 3 == 0 {
            arena.promote(SlotId(0));
        }
        if expert < 49 {
            arena.evict(SlotId(0));
        }
    }
    assert_eq!(arena.wait(key(49), SlotId(0)).expect("read").bytes()[0], 49);
}

/// Memory of one length is of no use to a record of another: what is kept for reads that are queued fits them.
#[test]
fn memory_is_kept_only_for_reads_of_its_own_length() {
    let arena = arena(0);
    let (small, large) = (SlotId(0), SlotId(1));
    arena.admit(key(1), small, false);
    arena.settle();
    assert_eq!(
        arena.wait(key(1), small).expect("read").formats(),
        GatedFormats::all(WeightFormat::F16)
    );
    arena.evict(small);
    arena.admit(key(1_000), large, false);
    arena.settle();
    assert_eq!(
        arena.wait(key(1_000), large).expect("read").bytes().len(),
        20_000
    );
    arena.finish_reads();
    assert_eq!(arena.mapped_bytes(), 20_480);
}

#[test]
fn an_expert_that_is_nowhere_is_an_error_and_not_a_wait() {
    let arena = arena(0);
    arena.admit(key(NO_SUCH), SlotId(0), false);
    let error = arena.wait(key(NO_SUCH), SlotId(0)).expect_err("no expert");
    assert!(error.to_string().contains("it is nowhere"), "{error}");
}

/// Tells of every read as it begins, and ends it when it is told to.
struct Gated {
    begun: mpsc::Sender<(u16, ReadPurpose)>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl RecordReader for Gated {
    fn find(&self, _: ExpertKey) -> Result<ExpertLocation, ExpertReadError> {
        Ok(record(4_096))
    }
    fn read(
        &self,
        purpose: ReadPurpose,
        key: ExpertKey,
        _: &ExpertLocation,
        _: &mut Mapped,
    ) -> Result<(), ExpertReadError> {
        self.begun.send((key.expert, purpose)).expect("a listener");
        let go = self.go.lock().expect("the gate");
        go.recv().expect("a word");
        Ok(())
    }
}

/// An arena whose one reading thread tells of its reads, and waits for a word before each ends.
fn gated() -> (
    Arc<SlotArena>,
    mpsc::Receiver<(u16, ReadPurpose)>,
    mpsc::Sender<()>,
) {
    let (begun, reads) = mpsc::channel();
    let (go, gate) = mpsc::channel();
    let reader = Gated {
        begun,
        go: Mutex::new(gate),
    };
    let arena = SlotArena::with_readers(Arc::new(reader), 1).expect("a thread");
    (arena, reads, go)
}

/// A read is what it was when it began: a prefetch that nobody had demanded by then stays one, and is not read again for
/// the demand that comes meanwhile.
#[test]
fn a_read_counts_once_and_for_what_it_was_begun() {
    let (arena, reads, go) = gated();
    arena.admit(key(1), SlotId(1), true);
    assert_eq!(reads.recv(), Ok((1, ReadPurpose::Prefetch)));
    // While it is read: two more are read ahead, one of them and the one in flight are demanded, the third is cancelled.
    arena.admit(key(2), SlotId(2), true);
    arena.admit(key(3), SlotId(3), true);
    arena.promote(SlotId(1));
    arena.promote(SlotId(2));
    arena.admit(key(4), SlotId(4), false);
    arena.evict(SlotId(3));
    for _ in 0..3 {
        go.send(()).expect("the reader");
    }
    arena.finish_reads();
    let after: Vec<_> = reads.try_iter().collect();
    assert_eq!(after, [(2, ReadPurpose::Demand), (4, ReadPurpose::Demand)]);
    for slot in [1, 2, 4] {
        assert!(arena.is_ready(SlotId(slot)), "slot {slot}");
    }
}

/// What was foreseen for a layer that has had its turn is not read any more, unless somebody asks for it after all.
#[test]
fn reads_ahead_for_a_layer_that_is_over_wait_until_they_are_asked_for() {
    let (arena, reads, go) = gated();
    let of_layer = |layer, expert| ExpertKey {
        layer: LayerKey {
            module: Module::Thinker,
            layer,
        },
        expert,
    };
    arena.admit(of_layer(0, 1), SlotId(1), true);
    assert_eq!(reads.recv(), Ok((1, ReadPurpose::Prefetch)));
    arena.admit(of_layer(0, 2), SlotId(2), true);
    arena.admit(of_layer(0, 3), SlotId(3), true);
    arena.admit(of_layer(1, 4), SlotId(4), true);
    for _ in 0..2 {
        go.send(()).expect("the reader");
    }
    arena.finish_reads();
    assert_eq!(
        reads.try_iter().collect::<Vec<_>>(),
        [(4, ReadPurpose::Prefetch)]
    );
    assert!(!arena.is_ready(SlotId(2)));
    arena.promote(SlotId(3));
    go.send(()).expect("the reader");
    assert!(arena.wait(of_layer(0, 3), SlotId(3)).is_ok());
    assert_eq!(
        reads.try_iter().collect::<Vec<_>>(),
        [(3, ReadPurpose::Demand)]
    );
}
