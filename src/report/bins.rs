//! Time in bins: as fine as a tick while the run is short, wider as it grows, never more than [`MOST_BINS`].

use sage_actors::protocol::{State, Tick};

use super::data::Series;
use crate::events::{CacheEvent, SalienceEvent};

/// When a run needs more bins than this, every two become one. So a run of this many ticks is kept tick by tick, and a
/// longer one in at least half as many bins.
pub const MOST_BINS: usize = 800;

/// What is felt, in the order of [`felt`].
const FELT: usize = 7;

/// Reward, whose neutral value is in the middle.
const REWARD: usize = 3;

/// Energy, of which the least matters.
const ATP: usize = 6;

fn felt(salience: &SalienceEvent) -> [f32; FELT] {
    [
        salience.surprise,
        salience.novelty,
        salience.arousal,
        salience.reward,
        salience.conflict,
        salience.drive,
        salience.atp as f32,
    ]
}

/// The one of two values that a reader must not miss.
fn telling(which: usize, a: f32, b: f32) -> f32 {
    match which {
        ATP => a.min(b),
        REWARD if (b - 0.5).abs() > (a - 0.5).abs() => b,
        REWARD => a,
        _ => a.max(b),
    }
}

/// A value that holds until the next one.
#[derive(Clone, Copy, Debug)]
struct BinValue<T> {
    /// The one that is shown for the bin.
    shown: T,
    /// The one that holds on.
    last: T,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    state_ticks: [u64; State::ALL.len()],
    felt: Option<BinValue<[f32; FELT]>>,
    resident: Option<BinValue<(u64, u64)>>,
    capacity: Option<BinValue<u64>>,
    hits: u64,
    misses: u64,
    bytes_read: u64,
    denied_mass: f64,
    denied_experts: u64,
    read_tokens: u64,
}

impl Bin {
    fn feel(&mut self, now: [f32; FELT]) {
        let before = self.felt.map_or(now, |held| held.shown);
        let shown = std::array::from_fn(|which| telling(which, before[which], now[which]));
        self.felt = Some(BinValue { shown, last: now });
    }

    fn hold(&mut self, bytes: u64, experts: u64) {
        let (most, more) = self.resident.map_or((0, 0), |held| held.shown);
        self.resident = Some(BinValue {
            shown: (most.max(bytes), more.max(experts)),
            last: (bytes, experts),
        });
    }

    fn may_hold(&mut self, bytes: u64) {
        let most = self.capacity.map_or(0, |held| held.shown);
        self.capacity = Some(BinValue {
            shown: most.max(bytes),
            last: bytes,
        });
    }

    /// The next bin becomes a part of this one.
    fn absorb(&mut self, next: &Bin) {
        for (ticks, more) in self.state_ticks.iter_mut().zip(next.state_ticks) {
            *ticks += more;
        }
        if let Some(held) = next.felt {
            self.feel(held.shown);
            self.felt.iter_mut().for_each(|mine| mine.last = held.last);
        }
        if let Some(held) = next.resident {
            self.hold(held.shown.0, held.shown.1);
            self.resident
                .iter_mut()
                .for_each(|mine| mine.last = held.last);
        }
        if let Some(held) = next.capacity {
            self.may_hold(held.shown);
            self.capacity
                .iter_mut()
                .for_each(|mine| mine.last = held.last);
        }
        self.hits += next.hits;
        self.misses += next.misses;
        self.bytes_read += next.bytes_read;
        self.denied_mass += next.denied_mass;
        self.denied_experts += next.denied_experts;
        self.read_tokens += next.read_tokens;
    }

    /// The state that took most of the bin; of two that took as much, the earlier of the table.
    fn state(&self) -> Option<State> {
        let most = self.state_ticks.iter().max().copied().filter(|t| *t > 0)?;
        State::ALL
            .into_iter()
            .find(|state| self.state_ticks[state.index()] == most)
    }
}

/// A run's time line.
#[derive(Clone, Debug)]
pub struct Bins {
    bin_ticks: Tick,
    bins: Vec<Bin>,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            bin_ticks: 1,
            bins: Vec::new(),
        }
    }
}

impl Bins {
    /// Ticks of a bin.
    pub fn bin_ticks(&self) -> Tick {
        self.bin_ticks
    }

    /// The bin of a tick; where there are too many, they are made wider.
    fn at(&mut self, tick: Tick) -> &mut Bin {
        while tick / self.bin_ticks >= MOST_BINS as u64 {
            self.bin_ticks *= 2;
            self.bins = self
                .bins
                .chunks(2)
                .map(|pair| {
                    let mut bin = pair[0];
                    pair[1..].iter().for_each(|next| bin.absorb(next));
                    bin
                })
                .collect();
        }
        let index = (tick / self.bin_ticks) as usize;
        if self.bins.len() <= index {
            self.bins.resize(index + 1, Bin::default());
        }
        &mut self.bins[index]
    }

    /// A step begins at `tick` with these measurements.
    pub fn feel(&mut self, tick: Tick, salience: &SalienceEvent) {
        self.at(tick).feel(felt(salience));
    }

    /// From `tick` on experts may take so many bytes.
    pub fn capacity(&mut self, tick: Tick, bytes: u64) {
        self.at(tick).may_hold(bytes);
    }

    /// What a step asked of the cache.
    pub fn cache(&mut self, tick: Tick, cache: &CacheEvent) {
        let bin = self.at(tick);
        bin.hits += cache.hits;
        bin.misses += cache.misses;
        bin.bytes_read += cache.bytes_read;
        bin.hold(cache.resident_bytes, cache.resident_experts);
        bin.may_hold(cache.capacity_bytes);
    }

    /// What a tower read.
    pub fn perceived(&mut self, tick: Tick, bytes_read: u64) {
        self.at(tick).bytes_read += bytes_read;
    }

    /// What a step did without.
    pub fn denied(&mut self, tick: Tick, mass: f32, experts: usize) {
        let bin = self.at(tick);
        bin.denied_mass += f64::from(mass);
        bin.denied_experts += experts as u64;
    }

    /// Tokens of a text that a step read.
    pub fn read(&mut self, tick: Tick, tokens: usize) {
        self.at(tick).read_tokens += tokens as u64;
    }

    /// From one tick up to another the mind was in one state.
    pub fn state(&mut self, state: State, from: Tick, until: Tick) {
        let mut tick = from;
        if until > from {
            // As wide as it will be, before the ticks are dealt out.
            self.at(until - 1);
        }
        while tick < until {
            let end = until.min((tick / self.bin_ticks + 1) * self.bin_ticks);
            self.at(tick).state_ticks[state.index()] += end - tick;
            tick = end;
        }
    }

    /// Column by column; where a bin has no value of its own, the one before holds.
    pub fn series(&self) -> Series {
        let mut series = Series::default();
        let mut state = State::Wake;
        let mut feeling = [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 100.0];
        let (mut resident, mut capacity) = ((0, 0), 0);
        for bin in &self.bins {
            state = bin.state().unwrap_or(state);
            series.state.push(state);
            let shown = bin.felt.map_or(feeling, |held| held.shown);
            feeling = bin.felt.map_or(feeling, |held| held.last);
            series.feel(shown);
            let may = bin.capacity.map_or(capacity, |held| held.shown);
            capacity = bin.capacity.map_or(capacity, |held| held.last);
            series.capacity_bytes.push(may);
            let holds = bin.resident.map_or(resident, |held| held.shown);
            resident = bin.resident.map_or(resident, |held| held.last);
            // A smaller capacity is obeyed at once, though only the next step tells how much is left.
            series.resident_bytes.push(holds.0.min(may));
            series.resident_experts.push(holds.1);
            series.hits.push(bin.hits);
            series.misses.push(bin.misses);
            series.bytes_read.push(bin.bytes_read);
            series.denied_mass.push(bin.denied_mass);
            series.denied_experts.push(bin.denied_experts);
            series.read_tokens.push(bin.read_tokens);
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salience(drive: f32, atp: f64) -> SalienceEvent {
        SalienceEvent {
            surprise: 0.0,
            novelty: 0.0,
            arousal: 0.0,
            reward: 0.5,
            conflict: 0.0,
            drive,
            atp,
            senses: None,
        }
    }

    fn step(hits: u64) -> CacheEvent {
        CacheEvent {
            request: None,
            hits,
            misses: 1,
            bytes_read: 10,
            resident_bytes: 30,
            resident_experts: 3,
            capacity_bytes: 40,
        }
    }

    #[test]
    fn a_short_run_is_kept_tick_by_tick_and_values_hold() {
        let mut bins = Bins::default();
        bins.feel(0, &salience(0.5, 90.0));
        bins.cache(0, &step(7));
        bins.state(State::Wake, 0, 2);
        bins.capacity(3, 20);
        bins.state(State::Rest, 2, 4);
        let series = bins.series();
        assert_eq!(bins.bin_ticks(), 1);
        assert_eq!(
            series.state,
            [State::Wake, State::Wake, State::Rest, State::Rest]
        );
        assert_eq!(series.drive, [0.5; 4]);
        assert_eq!(series.hits, [7, 0, 0, 0]);
        assert_eq!(series.resident_bytes, [30, 30, 30, 20]);
        assert_eq!(series.capacity_bytes, [40, 40, 40, 20]);
    }

    #[test]
    fn however_long_a_run_its_bins_are_few_and_nothing_is_lost() {
        let mut bins = Bins::default();
        let ticks = 100_000;
        for tick in 0..ticks {
            let (drive, atp) = if tick == 70_001 {
                (0.9, 5.0)
            } else {
                (0.1, 80.0)
            };
            bins.feel(tick, &salience(drive, atp));
            bins.cache(tick, &step(2));
            bins.denied(tick, 0.5, 1);
        }
        bins.state(State::Wake, 0, 60_000);
        bins.state(State::Threat, 60_000, ticks);
        let series = bins.series();
        let len = series.state.len();
        assert!((MOST_BINS / 2..=MOST_BINS).contains(&len), "{len} bins");
        assert_eq!(bins.bin_ticks(), 128);
        assert_eq!(series.hits.iter().sum::<u64>(), 2 * ticks);
        assert_eq!(series.bytes_read.iter().sum::<u64>(), 10 * ticks);
        assert_eq!(series.denied_experts.iter().sum::<u64>(), ticks);
        let peak = (70_001 / bins.bin_ticks()) as usize;
        assert_eq!((series.drive[peak], series.atp[peak]), (0.9, 5.0));
        assert_eq!((series.drive[peak + 1], series.atp[peak + 1]), (0.1, 80.0));
        let threat = series.state.iter().filter(|s| **s == State::Threat).count();
        assert!((threat as u64).abs_diff(40_000 / 128) <= 1, "{threat} bins");
    }

    #[test]
    fn one_long_state_widens_the_bins_before_it_is_dealt_out() {
        let mut bins = Bins::default();
        bins.state(State::Rest, 0, 1_000_000_000);
        let total: u64 = bins.bins.iter().flat_map(|bin| bin.state_ticks).sum();
        assert_eq!(total, 1_000_000_000);
        assert!(bins.bins.len() <= MOST_BINS);
    }
}
