//! Packing as AWQ and GPTQ do it, from their published layouts.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Value, json};

use crate::common::fixture;
use crate::common::layouts::{Layout, Stored};

/// How a folder is packed.
#[derive(Clone, Copy)]
pub(super) struct Recipe {
    pub(super) is_awq: bool,
    pub(super) bits: u32,
    /// Inputs of a group; all of them where there is none.
    pub(super) group: Option<usize>,
    /// Whether zeros are all the middle.
    pub(super) is_symmetric: bool,
    /// Whether the files hold zeros.
    pub(super) has_zeros: bool,
    /// Whether inputs are grouped out of order.
    pub(super) is_shuffled: bool,
    /// Whether stored zeros are what is meant, not one less.
    pub(super) is_v2: bool,
    /// Whether scales are BF16, not F16.
    pub(super) is_brain: bool,
}

pub(super) const AWQ: Recipe = Recipe {
    is_awq: true,
    bits: 4,
    group: Some(32),
    is_symmetric: false,
    has_zeros: true,
    is_shuffled: false,
    is_v2: true,
    is_brain: false,
};

pub(super) const GPTQ: Recipe = Recipe {
    is_awq: false,
    is_v2: false,
    ..AWQ
};

/// What downloads of GPTQ are most often.
pub(super) const SYMMETRIC: Recipe = Recipe {
    is_symmetric: true,
    ..GPTQ
};

pub(super) const ALL: [(&str, Recipe); 10] = [
    ("awq", AWQ),
    ("awq, one group", Recipe { group: None, ..AWQ }),
    (
        "awq, scales in bf16",
        Recipe {
            is_brain: true,
            ..AWQ
        },
    ),
    (
        "awq without zeros",
        Recipe {
            is_symmetric: true,
            has_zeros: false,
            ..AWQ
        },
    ),
    ("gptq", GPTQ),
    (
        "gptq_v2",
        Recipe {
            is_v2: true,
            group: Some(16),
            ..GPTQ
        },
    ),
    (
        "gptq, desc_act",
        Recipe {
            is_shuffled: true,
            ..GPTQ
        },
    ),
    (
        "gptq, 8 bits",
        Recipe {
            bits: 8,
            is_shuffled: true,
            ..GPTQ
        },
    ),
    ("gptq, symmetric", SYMMETRIC),
    (
        "gptq, symmetric, without zeros",
        Recipe {
            has_zeros: false,
            group: None,
            ..SYMMETRIC
        },
    ),
];

/// What stays as it is, as `modules_to_not_convert` has it: one module whole, and one matrix of one expert.
pub(super) const LEFT: [&str; 2] = [
    "thinker.model.layers.0.self_attn.",
    "thinker.model.layers.1.mlp.experts.3.down_proj.",
];

/// The module whose packing tests spoil.
pub(super) const Q: &str = "thinker.model.layers.1.self_attn.q_proj";

impl Recipe {
    pub(super) fn section(&self) -> Value {
        let group = self.group.map_or(json!(-1), |group| json!(group));
        if self.is_awq {
            return json!({
                "quant_method": "awq", "version": "gemm", "bits": self.bits, "group_size": group,
                "zero_point": !self.is_symmetric, "modules_to_not_convert": LEFT,
            });
        }
        json!({
            "quant_method": "gptq", "bits": self.bits, "group_size": group, "sym": self.is_symmetric,
            "desc_act": self.is_shuffled, "checkpoint_format": if self.is_v2 { "gptq_v2" } else { "gptq" },
        })
    }

    /// The group of each of so many inputs.
    fn groups(&self, inputs: usize) -> Vec<usize> {
        let group = self.group.unwrap_or(inputs);
        let place = |input: usize| match self.is_shuffled {
            true => (input * 37 + 11) % inputs,
            false => input,
        };
        (0..inputs).map(|input| place(input) / group).collect()
    }

    /// Packs one matrix; answers with its parts by the ends of their names, and the numbers that they stand for.
    pub(super) fn pack(&self, weight: &Stored) -> (Vec<(&'static str, Stored)>, Vec<f32>) {
        let [outs, ins] = weight.shape[..] else {
            panic!("no matrix");
        };
        let plain: Vec<f32> = numbers(&weight.bytes);
        let groups = self.groups(ins);
        let count = ins / self.group.unwrap_or(ins);
        let most = (1u32 << self.bits) - 1;
        let (mut scales, mut zeros) = (vec![0.0f32; count * outs], vec![0u32; count * outs]);
        let (mut integers, mut meant) = (vec![0u32; ins * outs], vec![0.0f32; ins * outs]);
        for out in 0..outs {
            for group in 0..count {
                let own: Vec<usize> = (0..ins).filter(|input| groups[*input] == group).collect();
                let number = |input: &usize| plain[out * ins + input];
                let least = own.iter().map(number).fold(0.0, f32::min);
                let greatest = own.iter().map(number).fold(0.0, f32::max);
                let (scale, zero) = if self.is_symmetric {
                    (2.0 * greatest.max(-least) / most as f32, most.div_ceil(2))
                } else {
                    let scale = (greatest - least) / most as f32;
                    // Zero itself cannot be stored less one.
                    let zero = (-least / scale).round() as u32;
                    (scale, zero.clamp(u32::from(!self.is_v2), most))
                };
                let scale = match self.is_brain {
                    true => bf16::from_f32(scale).to_f32(),
                    false => f16::from_f32(scale).to_f32(),
                };
                (scales[group * outs + out], zeros[group * outs + out]) = (scale, zero);
                for input in own {
                    let at = out * ins + input;
                    let integer = (plain[at] / scale).round() as i64 + i64::from(zero);
                    let integer = integer.clamp(0, most.into());
                    integers[input * outs + out] = integer as u32;
                    meant[at] = (integer - i64::from(zero)) as f32 * scale;
                }
            }
        }
        let scales = match self.is_brain {
            true => scales
                .iter()
                .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
                .collect(),
            false => scales
                .iter()
                .flat_map(|x| f16::from_f32(*x).to_le_bytes())
                .collect(),
        };
        let mut parts = vec![
            ("qweight", self.qweight(&integers, ins, outs)),
            (
                "scales",
                Stored {
                    dtype: if self.is_brain { "BF16" } else { "F16" }.to_owned(),
                    shape: vec![count, outs],
                    bytes: scales,
                },
            ),
        ];
        if self.has_zeros {
            let less = u32::from(!self.is_v2);
            let zeros: Vec<u32> = zeros.iter().map(|zero| zero - less).collect();
            parts.push(("qzeros", self.along_outputs(&zeros, count, outs)));
        }
        if !self.is_awq {
            let groups: Vec<u32> = groups.iter().map(|group| *group as u32).collect();
            parts.push(("g_idx", words(&groups, vec![ins])));
        }
        (parts, meant)
    }

    fn qweight(&self, integers: &[u32], ins: usize, outs: usize) -> Stored {
        if self.is_awq {
            return self.along_outputs(integers, ins, outs);
        }
        let each = (32 / self.bits) as usize;
        let mut packed = vec![0u32; ins / each * outs];
        for input in 0..ins {
            for out in 0..outs {
                let place = (input % each) as u32 * self.bits;
                packed[input / each * outs + out] |= integers[input * outs + out] << place;
            }
        }
        words(&packed, vec![ins / each, outs])
    }

    /// Integers `[rows, outs]` packed along their outputs, in the order of the method.
    fn along_outputs(&self, integers: &[u32], rows: usize, outs: usize) -> Stored {
        let each = (32 / self.bits) as usize;
        let order: Vec<usize> = match self.is_awq {
            true => vec![0, 2, 4, 6, 1, 3, 5, 7],
            false => (0..each).collect(),
        };
        let mut packed = Vec::new();
        for row in 0..rows {
            for word in 0..outs / each {
                let mut bits = 0;
                for (place, out) in order.iter().enumerate() {
                    let integer = integers[row * outs + word * each + out];
                    bits |= integer << (place as u32 * self.bits);
                }
                packed.push(bits);
            }
        }
        words(&packed, vec![rows, outs / each])
    }
}

pub(super) fn words(words: &[u32], shape: Vec<usize>) -> Stored {
    Stored {
        dtype: "I32".to_owned(),
        shape,
        bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
    }
}

pub(super) fn numbers(bytes: &[u8]) -> Vec<f32> {
    let all = bytes.as_chunks::<4>().0.iter();
    all.map(|number| f32::from_le_bytes(*number)).collect()
}

/// The thinker's projections packed, and the same checkpoint with the numbers that they stand for, in F32.
pub(super) struct Folder {
    pub(super) packed: Layout,
    pub(super) plain: Layout,
    /// Those that are packed.
    pub(super) meant: BTreeMap<String, Vec<f32>>,
}

pub(super) fn packed(recipe: Recipe) -> Folder {
    let (mut packed, mut plain) = (
        Layout::of(&fixture("tiny-thinker")),
        Layout::of(&fixture("tiny-thinker")),
    );
    packed.config["quantization_config"] = recipe.section();
    let mut meant = BTreeMap::new();
    for (name, tensor) in &mut plain.tensors {
        let is_left = LEFT.iter().any(|left| name.starts_with(left));
        if is_left || !name.starts_with("thinker.model.layers.") || !name.ends_with("_proj.weight")
        {
            continue;
        }
        let (parts, numbers) = recipe.pack(tensor);
        tensor.bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        packed.tensors.remove(name).unwrap();
        let module = name.strip_suffix(".weight").unwrap();
        for (end, part) in parts {
            packed.tensors.insert(format!("{module}.{end}"), part);
        }
        meant.insert(name.clone(), numbers);
    }
    assert!(meant.len() > 4 * 3 * 16, "{}", meant.len());
    Folder {
        packed,
        plain,
        meant,
    }
}
