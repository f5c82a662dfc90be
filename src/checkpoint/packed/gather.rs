//! From the parts that a folder holds to the matrices that they make: names, shapes and places. No number is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::TensorInfo;
use super::tensor::{PackedPart, PackedTensor, Packing, PackingMethod};
use crate::formats::WeightFormat;

/// What the names of parts end in.
const INTEGERS: &str = ".qweight";
const ZEROS: &str = ".qzeros";
const SCALES: &str = ".scales";
const GROUPS: &str = ".g_idx";

/// What is wrong with a part.
#[derive(Debug)]
pub(in crate::checkpoint) struct WrongPart {
    /// The shard that holds it.
    pub(in crate::checkpoint) shard: usize,
    /// Its name in the files.
    pub(in crate::checkpoint) name: String,
    /// The rest of a sentence that begins with its name.
    pub(in crate::checkpoint) problem: String,
}

impl WrongPart {
    fn new(part: &PackedPart, problem: String) -> Self {
        Self {
            shard: part.shard,
            name: part.name.clone(),
            problem,
        }
    }
}

/// Takes the parts of packed matrices out of `integers` and `tensors`, and puts the matrices among the tensors, as f32. Where
/// the folder is incomplete, a matrix that lacks a part is left out.
///
/// # Errors
/// The first part that is missing, of another shape, or beside a tensor that is not packed.
pub(in crate::checkpoint) fn gather(
    packing: Packing,
    mut integers: BTreeMap<String, PackedPart>,
    tensors: &mut BTreeMap<String, TensorInfo>,
    is_incomplete: bool,
) -> Result<(), WrongPart> {
    let mut modules = BTreeSet::new();
    for name in integers.keys().chain(tensors.keys()) {
        let ends = [INTEGERS, ZEROS, SCALES, GROUPS];
        let module = ends.iter().find_map(|end| name.strip_suffix(end));
        modules.extend(module.map(str::to_owned));
    }
    for module in modules {
        let mut integer = |end: &str| integers.remove(&format!("{module}{end}"));
        let parts = Parts {
            integers: integer(INTEGERS),
            zeros: integer(ZEROS),
            groups: integer(GROUPS),
            scales: tensors.remove(&format!("{module}{SCALES}")).map(of_floats),
        };
        let Some(tensor) = parts.together(&module, packing, is_incomplete)? else {
            continue;
        };
        let weight = format!("{module}.weight");
        if let Some(plain) = tensors.get(&weight) {
            let other = plain.stored_name();
            let problem = format!("is the same tensor as `{other}`; expected one of them");
            return Err(WrongPart::new(&tensor.integers, problem));
        }
        tensors.insert(weight.clone(), info(weight, tensor));
    }
    match integers.into_values().next() {
        None => Ok(()),
        Some(part) => Err(WrongPart::new(
            &part,
            format!("has type \"I32\", which only {INTEGERS}, {ZEROS} and {GROUPS} have"),
        )),
    }
}

/// A tensor of floats as the part of another.
fn of_floats(info: TensorInfo) -> PackedPart {
    PackedPart {
        name: info.stored_name().to_owned(),
        shape: info.shape,
        format: Some(info.dtype),
        shard: info.shard,
        offset: info.offset,
        bytes: info.bytes,
    }
}

/// The matrix as a tensor of the checkpoint.
fn info(name: String, tensor: PackedTensor) -> TensorInfo {
    let (dtype, shape) = (WeightFormat::F32, vec![tensor.rows, tensor.cols]);
    TensorInfo {
        name,
        stored_as: Some(tensor.integers.name.as_str().into()),
        dtype,
        bytes: (tensor.rows * tensor.cols * dtype.block_bytes()) as u64,
        shape,
        shard: tensor.integers.shard,
        offset: tensor.integers.offset,
        packed: Some(Arc::new(tensor)),
    }
}

/// What was found of a matrix.
struct Parts {
    integers: Option<PackedPart>,
    zeros: Option<PackedPart>,
    scales: Option<PackedPart>,
    groups: Option<PackedPart>,
}

impl Parts {
    /// The matrix that they make; none where one is missing of an incomplete folder.
    fn together(
        self,
        module: &str,
        packing: Packing,
        is_incomplete: bool,
    ) -> Result<Option<PackedTensor>, WrongPart> {
        let missing = self.missing(packing);
        let found = [&self.integers, &self.scales, &self.zeros, &self.groups];
        if let (Some(end), Some(found)) = (missing, found.into_iter().flatten().next()) {
            let problem = format!(
                "has no `{module}{end}` beside it, which {packing} calls for; download the folder again"
            );
            return match is_incomplete {
                true => Ok(None),
                false => Err(WrongPart::new(found, problem)),
            };
        }
        let (Some(integers), Some(scales)) = (self.integers, self.scales) else {
            return Ok(None);
        };
        let (rows, cols) = size(packing, &integers)?;
        let tensor = PackedTensor {
            packing,
            rows,
            cols,
            integers,
            scales,
            zeros: self.zeros,
            groups: self.groups,
        };
        check(&tensor)?;
        Ok(Some(tensor))
    }

    /// The ending of the first part that is not there and has to be.
    fn missing(&self, packing: Packing) -> Option<&'static str> {
        if self.integers.is_none() {
            Some(INTEGERS)
        } else if self.scales.is_none() {
            Some(SCALES)
        } else if self.zeros.is_none() && !packing.is_symmetric {
            Some(ZEROS)
        } else if self.groups.is_none() && packing.is_reordered {
            Some(GROUPS)
        } else {
            None
        }
    }
}

/// Outputs and inputs of a matrix, by the shape of its integers.
fn size(packing: Packing, integers: &PackedPart) -> Result<(usize, usize), WrongPart> {
    let (&[first, second], true) = (&integers.shape[..], integers.bytes > 0) else {
        let shape = &integers.shape;
        let problem = format!("has shape {shape:?}; expected two dimensions, neither of them 0");
        return Err(WrongPart::new(integers, problem));
    };
    // As many bytes are in the file, so nothing overflows.
    Ok(match packing.method {
        PackingMethod::Awq => (second * packing.per_word(), first),
        PackingMethod::Gptq => (second, first * packing.per_word()),
    })
}

/// That every part has the shape that follows from the integers and the configuration.
fn check(tensor: &PackedTensor) -> Result<(), WrongPart> {
    let PackedTensor {
        packing,
        rows,
        cols,
        integers,
        scales,
        ..
    } = tensor;
    let per_word = packing.per_word();
    let group = packing.group.unwrap_or(*cols);
    if !cols.is_multiple_of(group) {
        let problem = format!(
            "has shape {:?}, so {cols} inputs; config.json says group_size {group}, which does not divide them: if the \
             folder is packed otherwise than it says, download another, or the original in BF16",
            integers.shape
        );
        return Err(WrongPart::new(integers, problem));
    }
    let groups = cols / group;
    let is = |part: &PackedPart, expected: &[usize]| {
        if part.shape == expected {
            return Ok(());
        }
        let problem = format!(
            "has shape {:?}; expected {expected:?} beside `{}` {:?} of {packing}",
            part.shape, integers.name, integers.shape
        );
        Err(WrongPart::new(part, problem))
    };
    is(scales, &[groups, *rows])?;
    if scales.format.is_none_or(|format| !format.is_plain()) {
        let problem = "is stored in blocks; expected F16, BF16 or F32".to_owned();
        return Err(WrongPart::new(scales, problem));
    }
    if let Some(zeros) = &tensor.zeros {
        is(zeros, &[groups, rows.div_ceil(per_word)])?;
    }
    match (&tensor.groups, packing.method) {
        (Some(part), PackingMethod::Awq) => {
            let problem = "is there, and AWQ has none: config.json says awq of a folder that GPTQ packed; download another, or \
                           the original in BF16";
            Err(WrongPart::new(part, problem.to_owned()))
        }
        (Some(part), PackingMethod::Gptq) => is(part, &[*cols]),
        (None, _) => Ok(()),
    }
}
