//! What a module's experts take in memory: each by the format that its own record is in.

use std::collections::BTreeSet;

use sage_actors::ExpertRun;

use crate::checkpoint::Component;
use crate::formats::WeightFormat;
use crate::host_memory::{Shelf, round_up_to_page};
use crate::store::WeightSource;

/// Bytes that memory for records of so many bytes may take beyond them.
pub fn unused_bytes(record_bytes: u64) -> u64 {
    Shelf::unused_bytes(record_bytes as usize) as u64
}

/// Bytes of a module's experts in memory, in whole pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpertSlots {
    /// Of the largest.
    pub largest_bytes: u64,
    /// Of all of them together.
    pub total_bytes: u64,
    /// Those that take less than the largest, in ascending order of layer and expert.
    pub smaller: Vec<ExpertRun>,
}

impl ExpertSlots {
    /// Looks up every expert of a component once. One that the source lacks counts as the largest; where it has none at all,
    /// as 32-bit floats.
    pub fn of(source: &dyn WeightSource, component: Component) -> Self {
        let config = source.config();
        let Some(text) = component.text_config(config) else {
            return Self::default();
        };
        let mut found = Vec::new();
        for layer in (0..text.num_hidden_layers).filter(|layer| component.is_sparse(config, *layer))
        {
            for expert in 0..text.num_experts {
                let record = source.expert(component, layer, expert).ok();
                let bytes = record.map(|record| round_up_to_page(record.len_bytes) as u64);
                found.push((layer as u16, expert as u16, bytes));
            }
        }
        let shape = [3, text.moe_intermediate_size, text.hidden_size];
        let plain = WeightFormat::F32.tensor_bytes(&shape).unwrap_or(0);
        let largest_bytes = found.iter().filter_map(|(_, _, bytes)| *bytes).max();
        let largest_bytes = largest_bytes.unwrap_or(round_up_to_page(plain as usize) as u64);
        let mut slots = Self {
            largest_bytes,
            ..Self::default()
        };
        for (layer, expert, bytes) in found {
            let bytes = bytes.unwrap_or(largest_bytes);
            slots.total_bytes += bytes;
            if bytes < largest_bytes {
                slots.add(layer, expert, bytes);
            }
        }
        slots
    }

    /// Bytes that memory for records of these lengths may take beyond them: an unused part of a page for every length.
    pub fn unused_bytes(&self) -> u64 {
        let smaller = self.smaller.iter().map(|run| run.bytes);
        let lengths: BTreeSet<u64> = smaller.chain([self.largest_bytes]).collect();
        lengths.into_iter().map(unused_bytes).sum()
    }

    /// Adds an expert behind those that are known to be smaller.
    fn add(&mut self, layer: u16, first: u16, bytes: u64) {
        match self.smaller.last_mut() {
            Some(run)
                if run.layer == layer && run.bytes == bytes && run.first + run.experts == first =>
            {
                run.experts += 1;
            }
            _ => self.smaller.push(ExpertRun {
                layer,
                first,
                experts: 1,
                bytes,
            }),
        }
    }
}
