//! Recorded routing: which experts every token used in every layer.
//!
//! Three formats, told apart by their first bytes, plain or gzip:
//! - CSV (BigMoeOnEdge, `route_trace v1`): a header line with at least `phase,step,layer,expert` (`turn` and
//!   `expert_bytes` where there are), phase 0 for a prompt and 1 for decoded tokens, and `#` lines of `key=value` words
//!   (`n_layer`, `n_expert`, and `layer=` with `expert_bytes=`). The prompt of a turn becomes one batch.
//! - JSON lines (waste): `{"tok": n, "layers": [[ids], …]}`, every line a decoded token.
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
    let beginning = text.fill_buf().map_err(io)?;
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
    draft.finish(path, declared.expert_bytes)
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
        let text =
            "{\"tok\": 1, \"layers\": [[0, 5], [1, 2]]}\n\n{\"tok\": 2, \"layers\": [[5], [2]]}\n";
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
        assert!(say("{\"tok\": 1}\n").starts_with(":1: "));
        assert!(say("{\"tok\": 1, \"layers\": [[70000]]}\n").contains(":1: "));
        assert!(read(Path::new("/nowhere"), Declared::default()).is_err());
    }
}
