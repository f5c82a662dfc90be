//! What habits save: who would be in memory, and what would be missed, if the habits of the domain were not counted in.
//!
//! The twin of a pool sees the same leases with the same capacity and the same memory of use; it holds names only. It begins
//! as a copy of the pool when habits become known and ends when they are not known any more.

use crate::config::ExpertSizes;

use super::usage::Usage;

/// The residents that there would be.
#[derive(Clone, Debug)]
pub(super) struct Twin {
    resident: Vec<bool>,
    residents: Vec<u32>,
    bytes: u64,
}

impl Twin {
    /// A copy: of `experts` experts those in `residents`.
    pub fn of(residents: &[u32], experts: usize, sizes: &ExpertSizes) -> Self {
        let mut twin = Self {
            resident: vec![false; experts],
            residents: Vec::new(),
            bytes: 0,
        };
        residents.iter().for_each(|index| twin.admit(*index, sizes));
        twin
    }

    /// A lease of these experts, after their use was counted: bytes that would be missed.
    pub fn lease(
        &mut self,
        indices: &[u32],
        capacity_bytes: u64,
        sizes: &ExpertSizes,
        usage: &Usage,
    ) -> u64 {
        let missed: Vec<u32> = indices
            .iter()
            .copied()
            .filter(|index| !self.resident[*index as usize])
            .collect();
        let needed = sizes.sum(&missed);
        self.make_room(needed, capacity_bytes, indices, sizes, usage);
        missed.iter().for_each(|index| self.admit(*index, sizes));
        needed
    }

    fn make_room(
        &mut self,
        needed: u64,
        capacity_bytes: u64,
        kept: &[u32],
        sizes: &ExpertSizes,
        usage: &Usage,
    ) {
        let over = (self.bytes + needed).saturating_sub(capacity_bytes);
        if over == 0 {
            return;
        }
        let most = usize::try_from(over.div_ceil(sizes.smallest())).unwrap_or(usize::MAX);
        let mut victims = Vec::new();
        let may_go = |index: u32| !kept.contains(&index);
        usage.choose_without_habits(&self.residents, may_go, most, &mut victims);
        for (_, index) in victims {
            if self.bytes + needed <= capacity_bytes {
                break;
            }
            self.resident[index as usize] = false;
            self.bytes -= sizes.of(index);
        }
        let resident = &self.resident;
        self.residents.retain(|index| resident[*index as usize]);
    }

    fn admit(&mut self, index: u32, sizes: &ExpertSizes) {
        self.resident[index as usize] = true;
        self.residents.push(index);
        self.bytes += sizes.of(index);
    }
}
