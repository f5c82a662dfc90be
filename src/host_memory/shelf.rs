//! Memory for many things of one length, place by place in one range of addresses, in huge pages where the system has them.
//!
//! A huge page is taken from the system with one fault where ordinary ones take hundreds, and a direct read describes it in
//! one piece. It goes back only as a whole: what is given back inside of one stays. So whoever gives places back closes the
//! gaps from the end ([`Shelf::take_below`]), and the pages behind the last place in use leave the process.

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};
use rustix::process::{Resource, getrlimit};

use super::mapped::{HUGE_PAGE_BYTES, Mapped, Owner, PAGE_BYTES, has_huge_pages, round_up_to_page};

/// Addresses reserved for a shelf: no memory, and little of the 128 TiB that a process has. What does not fit is mapped by
/// itself.
const RESERVED_BYTES: usize = 64 << 30;

/// Addresses become usable in steps of this.
const STEP_BYTES: usize = 64 << 20;

/// Shorter things lie in ordinary pages: a huge one that is partly used counts in full.
const SHORTEST_IN_HUGE_PAGES_BYTES: usize = 256 << 10;

/// Places of one length, the first in use from the beginning on.
#[derive(Debug)]
pub struct Shelf {
    start: NonNull<u8>,
    reserved_bytes: usize,
    /// Bytes that were asked for, and what a place takes of whole ordinary pages.
    len: usize,
    place_bytes: usize,
    /// What goes back at a time: a huge page, or an ordinary one.
    page_bytes: usize,
    places: Mutex<Places>,
}

// SAFETY: the range is owned; who holds a place is its only user, and the places are counted under a lock.
unsafe impl Send for Shelf {}
// SAFETY: as above.
unsafe impl Sync for Shelf {}

#[derive(Debug, Default)]
struct Places {
    /// Not in use, below `end`; the last place below `end` is in use.
    gaps: BTreeSet<usize>,
    /// Places that are or were in use.
    end: usize,
    usable_bytes: usize,
}

/// A place in use, until it is dropped.
#[derive(Debug)]
struct Place {
    shelf: Arc<Shelf>,
    number: usize,
}

impl Owner for Place {}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.give_back(self.number);
    }
}

impl Shelf {
    /// A shelf for things of `len` bytes; it takes no memory yet. None where the system has not so many addresses for this
    /// process, or they are limited.
    pub fn new(len: usize) -> Option<Arc<Self>> {
        if getrlimit(Resource::As).current.is_some() {
            return None;
        }
        let huge = len >= SHORTEST_IN_HUGE_PAGES_BYTES && has_huge_pages();
        let page_bytes = match huge {
            true => HUGE_PAGE_BYTES,
            false => PAGE_BYTES,
        };
        let place_bytes = round_up_to_page(len.max(1));
        let reserved_bytes = RESERVED_BYTES.max(place_bytes);
        // SAFETY: an anonymous mapping at an address of the system's choice touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                reserved_bytes + page_bytes,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        let shelf = Self {
            start,
            reserved_bytes: reserved_bytes + page_bytes,
            len,
            place_bytes,
            page_bytes,
            places: Mutex::default(),
        };
        if huge {
            // SAFETY: the range that was just mapped. Where the system refuses, its pages are ordinary ones.
            let _ = unsafe {
                madvise(
                    start.as_ptr().cast(),
                    shelf.reserved_bytes,
                    Advice::LinuxHugepage,
                )
            };
        }
        Some(Arc::new(shelf))
    }

    /// Bytes of a shelf's last page that may be unused, at most; the same on every machine, so that it can be planned for.
    pub fn unused_bytes(len: usize) -> usize {
        match len >= SHORTEST_IN_HUGE_PAGES_BYTES {
            true => HUGE_PAGE_BYTES,
            false => 0,
        }
    }

    /// Where the first place is: the first address that begins a page of the kind that goes back.
    fn first(&self) -> usize {
        (self.start.as_ptr() as usize).next_multiple_of(self.page_bytes)
            - self.start.as_ptr() as usize
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // A panic elsewhere cannot leave it half-changed.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first place that is not in use; its bytes are zero or what was there before.
    ///
    /// # Errors
    /// When the shelf is full, or the system has no memory for more.
    pub fn take(self: &Arc<Self>) -> std::io::Result<Mapped> {
        let mut places = self.lock();
        let number = match places.gaps.pop_first() {
            Some(gap) => gap,
            None => {
                self.make_usable(&mut places)?;
                places.end += 1;
                places.end - 1
            }
        };
        drop(places);
        Ok(self.mapped(number))
    }

    /// The first place that is not in use, if it lies before `other`, one of this shelf's: what is in `other` may move there,
    /// so that memory in use stays together.
    pub fn take_below(self: &Arc<Self>, other: &Mapped) -> Option<Mapped> {
        let number = self.number_of(other)?;
        let mut places = self.lock();
        let first = *places.gaps.first()?;
        if first > number {
            return None;
        }
        places.gaps.remove(&first);
        drop(places);
        Some(self.mapped(first))
    }

    /// Bytes of empty places between those in use, whose memory may not go back for the sake of what shares a page with them;
    /// 0 where pages are ordinary ones: there every place goes back by itself.
    pub fn gap_bytes(&self) -> usize {
        match self.page_bytes > PAGE_BYTES {
            true => self.lock().gaps.len() * self.place_bytes,
            false => 0,
        }
    }

    /// Whether it is a place of this shelf.
    pub fn holds(&self, memory: &Mapped) -> bool {
        self.number_of(memory).is_some()
    }

    fn number_of(&self, memory: &Mapped) -> Option<usize> {
        let start = self.start.as_ptr() as usize;
        let at = (memory.bytes().as_ptr() as usize).checked_sub(start)?;
        (at < self.reserved_bytes).then(|| (at - self.first()) / self.place_bytes)
    }

    fn mapped(self: &Arc<Self>, number: usize) -> Mapped {
        // SAFETY: within the reserved range, which `make_usable` has seen.
        let start = unsafe { self.start.add(self.first() + number * self.place_bytes) };
        let place = Box::new(Place {
            shelf: Arc::clone(self),
            number,
        });
        // SAFETY: as above, and a place is handed out once, until it is dropped.
        unsafe { Mapped::of(place, start, self.place_bytes, self.len) }
    }

    /// Makes the addresses of one more place usable.
    fn make_usable(&self, places: &mut Places) -> std::io::Result<()> {
        let wanted = self.first() + (places.end + 1) * self.place_bytes;
        if wanted > self.reserved_bytes {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        if wanted > places.usable_bytes {
            let usable = wanted.next_multiple_of(STEP_BYTES).min(self.reserved_bytes);
            let more = usable - places.usable_bytes;
            // SAFETY: a part of the range that `new` reserved, which nobody uses yet.
            unsafe {
                let from = self.start.add(places.usable_bytes);
                mprotect(
                    from.as_ptr().cast(),
                    more,
                    MprotectFlags::READ | MprotectFlags::WRITE,
                )?;
            }
            places.usable_bytes = usable;
        }
        Ok(())
    }

    /// A place is not in use any more; the whole pages that nothing else touches go back to the system.
    fn give_back(&self, number: usize) {
        let mut places = self.lock();
        places.gaps.insert(number);
        // The run of gaps around it.
        let mut from = number;
        while from > 0 && places.gaps.contains(&(from - 1)) {
            from -= 1;
        }
        let mut to = number + 1;
        while places.gaps.contains(&to) {
            to += 1;
        }
        let at_the_end = to == places.end;
        if at_the_end {
            places.end = from;
            places.gaps.split_off(&from);
        }
        let first = self.first();
        let page = |bytes: usize| bytes.next_multiple_of(self.page_bytes);
        // Of its own pages those that the run covers; `first` begins a page.
        let own_from = number * self.place_bytes / self.page_bytes * self.page_bytes;
        let own_to = page((number + 1) * self.place_bytes);
        let run_from = page(from * self.place_bytes);
        let run_to = match at_the_end {
            true => own_to,
            false => to * self.place_bytes / self.page_bytes * self.page_bytes,
        };
        let (from, to) = (own_from.max(run_from), own_to.min(run_to));
        let to = to.min(self.reserved_bytes - first);
        if from < to {
            // SAFETY: pages of the reserved range that no place in use touches, and the lock keeps new ones away. A failure
            // cannot be handled here: the pages stay, and are used again.
            let _ = unsafe {
                let start = self.start.add(first + from);
                madvise(start.as_ptr().cast(), to - from, Advice::LinuxDontNeed)
            };
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; every place holds the shelf, so that none is in use.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.reserved_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 700_000;

    fn filled(shelf: &Arc<Shelf>, with: u8) -> Mapped {
        let mut place = shelf.take().expect("memory");
        place.pages_mut().fill(with);
        place
    }

    fn all(place: &Mapped, are: u8) -> bool {
        place.len() == LEN && place.bytes().iter().all(|byte| *byte == are)
    }

    /// Bytes of the range that are in memory, by the system's own count.
    fn in_memory(shelf: &Shelf) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let start = shelf.start.as_ptr() as usize;
        let (mut inside, mut kibibytes) = (false, 0);
        for line in smaps.lines() {
            if let Some((from, _)) = line.split_once('-')
                && let Ok(from) = usize::from_str_radix(from, 16)
            {
                inside = (start..start + shelf.reserved_bytes).contains(&from);
            } else if inside && let Some(rss) = line.strip_prefix("Rss:") {
                let number = rss.trim().trim_end_matches(" kB");
                kibibytes += number.parse::<usize>().expect("a number");
            }
        }
        kibibytes * 1024
    }

    #[test]
    fn places_are_taken_from_the_beginning_and_hold_what_was_written() {
        let shelf = Shelf::new(LEN).expect("addresses");
        let mut places: Vec<Mapped> = (0..5).map(|with| filled(&shelf, with)).collect();
        assert!((0..).zip(&places).all(|(with, place)| all(place, with)));
        drop(places.remove(1));
        let again = filled(&shelf, 9);
        assert!(
            again.bytes().as_ptr() < places[1].bytes().as_ptr(),
            "the gap"
        );
        assert!(all(&again, 9) && all(&places[0], 0) && all(&places[1], 2));
        drop((places, again));
        assert_eq!(shelf.lock().end, 0);
        assert!(shelf.lock().gaps.is_empty());
    }

    #[test]
    fn whole_pages_go_back_and_nothing_else_changes() {
        let shelf = Shelf::new(LEN).expect("addresses");
        let mut places: Vec<Mapped> = (0..16).map(|with| filled(&shelf, with)).collect();
        let (page, full) = (shelf.page_bytes, in_memory(&shelf));
        assert!(full >= 16 * LEN, "{full}");
        // Every second one: what is between stays as it was.
        let mut number = 0;
        places.retain(|_| {
            number += 1;
            number % 2 == 1
        });
        assert!((0..8).zip(&places).all(|(at, place)| all(place, at * 2)));
        // The rest moves together, and what is behind it goes back.
        for place in places.iter_mut().rev() {
            let Some(mut lower) = shelf.take_below(place) else {
                break;
            };
            lower.pages_mut().copy_from_slice(place.pages_mut());
            *place = lower;
        }
        assert!((0..8).zip(&places).all(|(at, place)| all(place, at * 2)));
        assert_eq!(shelf.lock().end, 8);
        let half = in_memory(&shelf);
        assert!(half <= 8 * shelf.place_bytes + page, "{half} of {full}");
        drop(places);
        assert_eq!(in_memory(&shelf), 0);
    }

    #[test]
    fn a_place_of_another_shelf_or_of_none_moves_nowhere() {
        let (one, other) = (
            Shelf::new(LEN).expect("addresses"),
            Shelf::new(LEN).expect("addresses"),
        );
        let (first, second, foreign) = (filled(&one, 1), filled(&one, 2), filled(&other, 3));
        drop(first);
        assert!(one.take_below(&foreign).is_none());
        assert!(one.take_below(&Mapped::new(LEN).expect("memory")).is_none());
        let lower = one.take_below(&second).expect("a gap");
        assert!(one.take_below(&lower).is_none());
    }
}
