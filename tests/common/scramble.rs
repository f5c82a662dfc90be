//! Copies of a model whose experts are broken.

use std::path::Path;

use sage::checkpoint::Checkpoint;

/// A copy of a checkpoint in which the numbers of the down projections of `chosen` experts, (layer, expert), stand in
/// reverse order; tells how many that are.
pub fn scramble(from: &Path, to: &Path, chosen: impl Fn(u16, u16) -> bool) -> usize {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from)
        .expect("the model")
        .flatten()
        .filter(|entry| entry.path().is_file())
    {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
    let checkpoint = Checkpoint::open(from).expect("a checkpoint");
    let mut scrambled = 0;
    for shard in 0..checkpoint.shard_count() {
        let path = to.join(checkpoint.shard_path(shard).file_name().expect("a name"));
        let mut bytes = std::fs::read(&path).expect("a shard");
        for tensor in checkpoint.tensors().filter(|tensor| tensor.shard == shard) {
            if !down_projection(&tensor.name).is_some_and(|(layer, expert)| chosen(layer, expert)) {
                continue;
            }
            let data = &mut bytes[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize];
            let numbers: Vec<[u8; 2]> = data
                .chunks_exact(2)
                .rev()
                .map(|pair| [pair[0], pair[1]])
                .collect();
            data.copy_from_slice(numbers.as_flattened());
            scrambled += 1;
        }
        std::fs::write(&path, bytes).expect("written");
    }
    assert!(scrambled > 0, "no expert was scrambled");
    scrambled
}

/// (layer, expert) of `….layers.L.mlp.experts.E.down_proj.weight`.
fn down_projection(name: &str) -> Option<(u16, u16)> {
    let (_, rest) = name.split_once(".layers.")?;
    let (layer, rest) = rest.split_once(".mlp.experts.")?;
    let expert = rest.strip_suffix(".down_proj.weight")?;
    Some((layer.parse().ok()?, expert.parse().ok()?))
}
