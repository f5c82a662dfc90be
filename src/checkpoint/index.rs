//! Which shard holds which tensor.

use std::collections::BTreeMap;
#[cfg(feature = "hub")]
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component as PathPart, Path};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// The file that names the shards of a checkpoint in several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The weights of a checkpoint in one file.
pub(crate) const SINGLE: &str = "model.safetensors";

/// `model.safetensors.index.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) weight_map: WeightMap,
}

/// Tensor name to shard file name.
#[derive(Debug)]
pub(super) struct WeightMap(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from tensor names to shard files")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, shard)) = map.next_entry::<String, String>()? {
                    if entries.insert(name.clone(), shard).is_some() {
                        return Err(serde::de::Error::custom(format!(
                            "tensor `{name}` occurs twice"
                        )));
                    }
                }
                Ok(WeightMap(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Index {
    /// Parses the index; a shard must be the plain name of a file beside it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if let Some((tensor, shard)) = index
            .weight_map
            .0
            .iter()
            .find(|(_, shard)| !is_plain_name(shard))
        {
            return Err(format!(
                "`{tensor}` is said to lie in {shard:?}; expected the name of a file in the same folder"
            ));
        }
        Ok(index)
    }
}

/// The shards that an index names.
///
/// # Errors
/// Says why it is none.
#[cfg(feature = "hub")]
pub(crate) fn shards_of_index(text: &[u8]) -> Result<BTreeSet<String>, String> {
    Ok(Index::parse(text)?.weight_map.0.into_values().collect())
}

/// Whether `name` names a file in a folder and nothing else: no separators, no `..`, not empty.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(PathPart::Normal(part)), None) if part == name);
    plain && name.len() <= 255 && !name.contains('\0')
}
