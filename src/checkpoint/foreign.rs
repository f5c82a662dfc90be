//! What people have instead of a checkpoint that runs: weights quantised by others, files of other programs, adapters.
//! Each is recognised by what it says of itself and named in one sentence, with what to do.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::index::{INDEX, SINGLE};
use super::packed;

/// Element types that weights may have, in words.
const OURS: &str = "weights are read in BF16, F16 or F32, or as AWQ and GPTQ pack them";

/// No configuration comes near this; a longer file is no configuration.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The sentence about a file that was given where a folder is expected.
pub fn of_file(path: &Path) -> String {
    let extension = path.extension().map(|end| end.to_ascii_lowercase());
    let extension = extension.and_then(|end| end.into_string().ok());
    match extension.as_deref() {
        _ if begins_with(path, b"GGUF") => gguf("a GGUF file of llama.cpp", ""),
        Some("gguf") => gguf("named as a GGUF file of llama.cpp", ""),
        Some("safetensors") => {
            "one file of weights; give the folder that holds it together with its config.json"
                .to_owned()
        }
        Some("bin" | "pt" | "pth" | "ckpt" | "h5" | "onnx") => format!(
            "a file of PyTorch or another program, not a folder; {OURS} from *.safetensors beside a config.json: {}",
            original("")
        ),
        _ => "not a folder; expected a checkpoint or an extracted store".to_owned(),
    }
}

/// The sentence about a folder that is no checkpoint of ours; none where nothing speaks against it.
pub fn of_folder(folder: &Path) -> Option<String> {
    let config = folder.join("config.json");
    if !config.exists() {
        return without_config(folder);
    }
    let config = json(&config)?;
    let model_type = config["model_type"].as_str().unwrap_or("");
    match packed::of_config(&config) {
        Ok(Some(_)) => {}
        Ok(None) => {
            let found = quantised_by_config(&config).or_else(|| quantised_beside(folder));
            if let Some(method) = found {
                return Some(quantised(&method, model_type));
            }
        }
        Err(error) => return Some(error.to_string()),
    }
    if model_type.is_empty()
        && let Some(class) = config["_class_name"].as_str()
    {
        return Some(format!(
            "config.json describes {} of diffusers, which is another kind of model; {}",
            quoted(class),
            original("")
        ));
    }
    if folder.join(SINGLE).exists() || folder.join(INDEX).exists() {
        return None;
    }
    without_weights(folder, model_type)
}

/// A folder that has no config.json.
fn without_config(folder: &Path) -> Option<String> {
    if folder.join("adapter_config.json").exists() {
        return Some(adapter(folder));
    }
    if folder.join("model_index.json").exists() {
        return Some(format!(
            "a pipeline of diffusers (model_index.json), which is another kind of model; {}",
            original("")
        ));
    }
    if has_file(folder, ".gguf") {
        return Some(gguf("a folder of GGUF files of llama.cpp", ""));
    }
    None
}

/// A folder with a config.json and without safetensors that could be opened.
fn without_weights(folder: &Path, model_type: &str) -> Option<String> {
    if folder.join("adapter_config.json").exists() {
        return Some(adapter(folder));
    }
    if has_file(folder, ".gguf") {
        return Some(gguf(
            "a folder whose weights are GGUF files of llama.cpp",
            model_type,
        ));
    }
    let others = [
        (".bin", "pickles of PyTorch (*.bin)"),
        (".pt", "pickles of PyTorch (*.pt)"),
        (".pth", "pickles of PyTorch (*.pth)"),
        (".h5", "TensorFlow's (*.h5)"),
        (".msgpack", "Flax's (*.msgpack)"),
        (".onnx", "an ONNX graph (*.onnx)"),
    ];
    let (_, what) = others.iter().find(|(end, _)| has_file(folder, end))?;
    Some(format!(
        "its weights are {what}; {OURS} from *.safetensors only: download these, or load the model with transformers and \
         save it again with save_pretrained(…, safe_serialization=True)"
    ))
}

fn adapter(folder: &Path) -> String {
    let config = json(&folder.join("adapter_config.json")).unwrap_or_default();
    let base = config["base_model_name_or_path"]
        .as_str()
        .map_or_else(|| "the model it belongs to".to_owned(), quoted);
    format!(
        "an adapter (adapter_config.json: LoRA or another of peft), not a whole model; load {base} with it, merge both \
         (merge_and_unload in peft) and save the result with save_pretrained"
    )
}

fn gguf(what: &str, model_type: &str) -> String {
    format!(
        "{what}: `sage extract FILE.gguf --out STORE` makes a store of a Qwen3-MoE model or of the thinker of Qwen3-Omni; of \
         anything else {}",
        original(model_type)
    )
}

fn quantised(method: &str, model_type: &str) -> String {
    format!(
        "quantised by others as {method}; {OURS}: {}",
        original(model_type)
    )
}

/// What to do instead.
fn original(model_type: &str) -> &'static str {
    match model_type {
        "qwen3_moe" => {
            "download the original in BF16, such as Qwen/Qwen3-30B-A3B or Qwen/Qwen3-Coder-30B-A3B-Instruct"
        }
        "" | "qwen3_omni_moe" | "qwen3_omni_moe_thinker" => {
            "download the original in BF16, such as Qwen/Qwen3-Omni-30B-A3B-Instruct (or -Thinking, -Captioner)"
        }
        _ => {
            "and its model_type is another one; download an original in BF16 of qwen3_omni_moe or qwen3_moe, such as \
             Qwen/Qwen3-Omni-30B-A3B-Instruct"
        }
    }
}

/// The method that config.json names.
fn quantised_by_config(config: &Value) -> Option<String> {
    let (key, found) = packed::quantisation(config)?;
    Some(format!("{} (`{key}` in config.json)", method(found)))
}

/// A quantisation's own words for itself.
fn method(section: &Value) -> String {
    let bits = section["bits"]
        .as_u64()
        .map(|bits| format!(", {bits} bits"));
    let bits = bits.unwrap_or_default();
    let named = ["quant_method", "quant_algo", "quant_type", "format"]
        .iter()
        .find_map(|key| section[*key].as_str());
    match named.map(str::to_ascii_lowercase).as_deref() {
        Some("fp8" | "fbgemm_fp8") if section.get("weight_block_size").is_some() => {
            "FP8 in blocks".to_owned()
        }
        Some("fp8" | "fbgemm_fp8") => "FP8".to_owned(),
        Some("gptq") => format!("GPTQ{bits}"),
        Some("awq") => format!("AWQ{bits}"),
        Some("bitsandbytes") => "bitsandbytes".to_owned(),
        Some("compressed-tensors") => "compressed-tensors".to_owned(),
        Some("modelopt") => "ModelOpt".to_owned(),
        Some(other) => quoted(other),
        None if section.get("load_in_4bit").is_some() || section.get("load_in_8bit").is_some() => {
            "bitsandbytes".to_owned()
        }
        // MLX writes its group size and bits without a name.
        None if section.get("group_size").is_some() => format!("MLX{bits}"),
        None => "a format that it does not name".to_owned(),
    }
}

/// The method that a file of its own names.
fn quantised_beside(folder: &Path) -> Option<String> {
    let files = [
        ("quantize_config.json", "GPTQ"),
        ("quant_config.json", "AWQ"),
        ("hf_quant_config.json", "ModelOpt"),
    ];
    let (file, method) = files.iter().find(|(file, _)| folder.join(file).exists())?;
    Some(format!(
        "{method} ({file}; what is read of it stands under `quantization_config` in config.json)"
    ))
}

/// The sentence about a file of weights whose tensors, each by name and type, are those of a quantised model; none where
/// they are not.
pub(super) fn of_tensors<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Option<String> {
    let named = |end: &str| tensors.clone().find(|(name, _)| name.ends_with(end));
    let typed = |types: &[&str]| tensors.clone().find(|(_, dtype)| types.contains(dtype));
    let packed = named(".qweight");
    let (method, (tensor, _)) = None
        .or_else(|| Some(("FP8 in blocks", named(".weight_scale_inv")?)))
        .or_else(|| named(".g_idx").and_then(|_| Some(("GPTQ", packed?))))
        .or_else(|| named(".qzeros").and_then(|_| Some(("AWQ (or GPTQ)", packed?))))
        .or_else(|| Some(("a format with packed integers", packed?)))
        .or_else(|| Some(("compressed-tensors", named(".weight_packed")?)))
        .or_else(|| Some(("bitsandbytes", named(".absmax").or_else(|| named(".SCB"))?)))
        .or_else(|| {
            typed(&["U32", "I32"])?;
            named(".biases")?;
            Some(("MLX", named(".scales")?))
        })
        .or_else(|| Some(("FP8", typed(&["F8_E4M3", "F8_E5M2", "F8_E8M0"])?)))
        .or_else(|| {
            Some((
                "MXFP4",
                named("_blocks").filter(|(_, dtype)| *dtype == "U8")?,
            ))
        })?;
    Some(format!(
        "{} (it holds {})",
        quantised(method, ""),
        quoted(tensor)
    ))
}

/// What a file says, for a message: cut short, control characters escaped.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    format!("{short:?}")
}

pub(super) fn begins_with(path: &Path, magic: &[u8]) -> bool {
    // Devices and pipes are not read: they may have no end, or no beginning.
    if !path.is_file() {
        return false;
    }
    let mut begin = vec![0; magic.len()];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut begin))
        .is_ok()
        && begin == magic
}

/// A file's JSON; none where it is too long, unreadable or damaged, which others report.
fn json(path: &Path) -> Option<Value> {
    let file = fs::metadata(path).ok()?;
    if !file.is_file() || file.len() > MAX_CONFIG_BYTES {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn has_file(folder: &Path, end: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| name.to_ascii_lowercase().ends_with(end))
}
