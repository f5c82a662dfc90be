//! Recorded routing: which experts every token used in every layer.
//!
//! Three formats, told apart by their first bytes, plain or gzip:
//! - CSV (BigMoeOnEdge, `route_trace v1`): a header line with at least `phase,step,layer,expert` (`turn` and
//!   `expert_bytes` where there are), phase 0 for a prompt and 1 for decoded tokens, and `#` lines of `key=value` words
//!   (`n_layer`, `n_expert`, and `layer=` with `expert_bytes=`). The prompt of a turn becomes one batch.
//! - JSON lines (waste): `{"tok": n, "layers": [[ids], …]}`, every line a decoded token, with a list for each of the model's
//!   layers by its number; that of a dense layer is empty.
//! - A recorded run of SAGE: what was read is a batch, a chunk each; what was generated is decoded.

mod csv;
mod draft;
mod jsonl;
mod lines;
mod locality;
mod own;
mod tokens;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;

pub use draft::Recording;
use lines::unreadable;
pub use locality::Locality;
pub use tokens::TokenRoutes;

use crate::trace::TraceError;

/// What the user says of a recording that does not say it itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Declared {
    /// Experts a layer.
    pub experts: Option<u16>,
    /// Bytes of every expert.
    pub expert_bytes: Option<u64>,
    /// Experts a layer of the model that the recording is read for: they count where it does not say how many there are.
    pub model_experts: Option<u16>,
}

/// Reads a recording.
///
/// # Errors
/// When the file cannot be read or says something that no recording can; the line is named.
pub fn read(path: &Path, declared: Declared) -> Result<Recording, TraceError> {
    let io = |source| TraceError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let zipped = file.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    let mut text: Box<dyn BufRead> = if zipped {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    let beginning = text.fill_buf().map_err(|source| unreadable(path, source))?;
    let (own, json) = (
        beginning.starts_with(own::BEGINNING),
        beginning.first() == Some(&b'{'),
    );
    let mut draft = if own {
        own::read(path)?
    } else if json {
        jsonl::read(path, &mut text)?
    } else {
        csv::read(path, &mut text)?
    };
    draft.experts = declared.experts.map(u64::from).or(draft.experts);
    let of_model = declared.model_experts.map(u64::from);
    draft.finish(path, declared.expert_bytes, of_model)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use sage_actors::EvictionPolicy;
    use sage_actors::cache::whatif::{Chooser, WhatIfCounts, replay};

    fn file(text: &str, zip: bool) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        if zip {
            let mut gz = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
            gz.write_all(text.as_bytes()).unwrap();
            gz.finish().unwrap();
        } else {
            file.write_all(text.as_bytes()).unwrap();
        }
        file
    }

    fn read_text(text: &str) -> Result<Recording, String> {
        let file = file(text, false);
        read(file.path(), Declared::default()).map_err(|error| {
            let shown = error.to_string();
            let name = file.path().display().to_string();
            shown.trim_start_matches(&name).to_owned()
        })
    }

    const CSV: &str = "# route_trace v1\n# n_layer=2 n_expert=4\n# layer=0 expert_bytes=10\n# layer=1 expert_bytes=30\n\
        turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n\
        0,0,0,0,0,1,0.5,0,10\n0,0,1,0,0,1,0.5,0,10\n0,0,1,0,1,2,0.5,0,10\n0,0,0,1,0,3,1,0,30\n\
        0,1,2,0,0,1,1,1,0\n0,1,2,1,0,0,1,0,30\n0,1,3,0,0,3,1,0,10\n0,1,3,1,0,0,1,1,0\n";

    #[test]
    fn a_prompt_of_csv_is_one_batch_and_sizes_are_the_layers_own() {
        for zip in [false, true] {
            let file = file(CSV, zip);
            let recording = read(file.path(), Declared::default()).unwrap();
            assert!(!recording.experts_guessed && !recording.sizes_unknown);
            let routes = recording.routes;
            assert_eq!(
                (routes.layers(), routes.experts, routes.decoded()),
                (2, 4, 2)
            );
            assert_eq!((routes.all_bytes(), routes.k()), (160, 1));
            let lru = Chooser::Online(EvictionPolicy::Lru);
            let counts = replay(&routes, lru, 1000, false);
            let first = WhatIfCounts {
                routed: 2,
                hits: 1,
                miss_bytes: 30,
            };
            assert_eq!(
                counts[0], first,
                "expert 1 of layer 0 is there since the prompt"
            );
            assert_eq!((counts[1].hits, counts[1].miss_bytes), (1, 10));
        }
    }

    #[test]
    fn json_lines_are_decoded_tokens_of_unknown_size() {
        let text = "{\"tok\": 1, \"layers\": [[0, 5], [1, 2]]}\n\n{\"tok\": 2, \"layers\": [[5, 1], [2, 0]]}\n";
        let recording = read_text(text).unwrap();
        assert!(recording.experts_guessed && recording.sizes_unknown);
        let routes = recording.routes;
        assert_eq!(
            (routes.layers(), routes.experts, routes.decoded()),
            (2, 8, 2)
        );
        assert_eq!(routes.all_bytes(), 16);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let say = |text: &str| read_text(text).unwrap_err();
        assert_eq!(say(""), ": records no expert");
        assert!(say("a,b\n").contains(":1: no column `phase`"));
        let row = |row: &str| say(&format!("{CSV}{row}\n"));
        assert!(row("0,1,4,0,0,x,1,0,10").starts_with(":14: expert is `x`"));
        assert!(row("0,1,4,0,0").starts_with(":14: 5 values"));
        assert!(row("0,2,4,0,0,1,1,0,10").contains("phase is `2`"));
        assert!(row("0,1,2,0,0,1,1,0,10").contains("step 2 after step 3"));
        assert!(row("0,1,4,0,0,9,1,0,10").contains("expert 9 is used"));
        for (lines, expected) in [
            (
                "[[0], [1]]|[[0]]",
                ":2: layers: 1; expected 2, as line 1 has",
            ),
            ("[[0], [1]]|[[0], []]", ":2: layer 1 has no expert"),
            (
                "[[], [1]]|[[0], [1]]",
                ":2: layer 0 has experts; expected none",
            ),
            (
                "[[0, 1], [3, 3]]",
                ":1: layer 1: expert 3 stands there twice",
            ),
        ] {
            let lines = lines.split('|').map(|of| format!("{{\"layers\": {of}}}\n"));
            let problem = say(&lines.collect::<String>());
            assert!(problem.starts_with(expected), "{problem}");
        }
        assert!(say("{\"tok\": 1}\n").starts_with(":1: "));
        assert!(say("{\"tok\": 1, \"layers\": [[70000]]}\n").contains(":1: "));
        assert!(read(Path::new("/nowhere"), Declared::default()).is_err());
    }

    /// What a file does not say is taken from the model, and what it says is held against it.
    #[test]
    fn the_number_of_experts_is_the_models_where_the_file_does_not_say_it() {
        let lines = "{\"layers\": [[0, 5]]}\n{\"layers\": [[5, 20]]}\n";
        let of_model = |experts| {
            let file = file(lines, false);
            let declared = Declared {
                model_experts: Some(experts),
                ..Declared::default()
            };
            read(file.path(), declared).map_err(|error| error.to_string())
        };
        let recording = of_model(24).unwrap();
        assert!(!recording.experts_guessed);
        assert_eq!(recording.tokens.unwrap().experts, 24);
        let problem = of_model(16).unwrap_err();
        assert!(
            problem.contains("line 2, layer 0, uses expert 20; the model has experts 0 to 15"),
            "{problem}"
        );
        let varying = read_text("{\"layers\": [[0, 5]]}\n{\"layers\": [[5]]}\n").unwrap();
        let problem = varying.tokens.unwrap_err();
        assert!(problem.starts_with("line 2, layer 0: experts: 1; expected 2"));
    }

    #[test]
    fn a_compressed_file_that_ends_too_soon_is_a_bad_file() {
        use crate::input::{Attributed, Fault};
        let whole = file(CSV, true);
        let bytes = std::fs::read(whole.path()).unwrap();
        let mut damaged = bytes.clone();
        damaged[12] ^= 0xff;
        for bytes in [&bytes[..bytes.len() / 2], &bytes[..12], &damaged] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let error = read(file.path(), Declared::default()).unwrap_err();
            assert_eq!(error.fault(), Fault::Request, "{error}");
            assert!(
                error.to_string().contains("get the whole file again"),
                "{error}"
            );
        }
    }
}
