//! code2wav: case `code2wav`, and what no golden says.

use sage::model::code2wav::{Code2Wav, CodesError};

use super::golden::{Golden, LONG, MODULE, bits, folder, source, with_threads};

fn vocoder() -> Code2Wav {
    Code2Wav::load(source().as_ref()).expect("a vocoder")
}

/// The first `kept` of each channel's samples.
fn cut(values: &[f32], channels: usize, kept: usize) -> Vec<f32> {
    let rows = values.chunks_exact(values.len() / channels);
    rows.flat_map(|row| row[..kept].iter().copied()).collect()
}

#[test]
fn every_stage_equals_the_reference() {
    let mut golden = Golden::open("code2wav");
    let codes = golden.ids("code2wav.codes");
    let frames = codes.len() / 4;
    let vocoder = vocoder();
    let mut told = Vec::new();
    let waveform = vocoder
        .decode_probed(&codes, frames, &mut |name, values| {
            told.push((name.to_owned(), values.to_vec()));
        })
        .expect("a waveform");
    for (name, values) in &told {
        let shape = golden.shape(name);
        if name.contains(".decoder_out.") {
            golden.compare(name, &cut(values, shape[1], shape[2]), MODULE);
        } else {
            golden.compare(name, values, MODULE);
        }
    }
    // Embedding, 2 layers, norm, 2 stages, 7 steps of the decoder.
    assert_eq!(told.len(), 13);
    assert_eq!(waveform.len(), Code2Wav::samples(&vocoder.config, frames));
    golden.compare("code2wav.waveform_full", &waveform, LONG);
    assert!(
        waveform.iter().any(|x| x.abs() > 0.01),
        "silence proves nothing"
    );
}

#[test]
fn chunks_with_left_context_equal_the_reference() {
    let mut golden = Golden::open("code2wav");
    let codes = golden.ids("code2wav.codes");
    let (chunk, context) = (
        golden.number("/measured/chunk_size").expect("a size"),
        golden
            .number("/measured/left_context_size")
            .expect("a size"),
    );
    let vocoder = vocoder();
    let frames = codes.len() / 4;
    let chunked = vocoder.decode_chunked(&codes, frames, chunk, context);
    golden.compare(
        "code2wav.waveform_chunked",
        &chunked.expect("a waveform"),
        LONG,
    );
    // One chunk that holds everything is the whole clip.
    let whole = vocoder.decode(&codes, frames).expect("a waveform");
    let one = vocoder
        .decode_chunked(&codes, frames, 300, 25)
        .expect("a waveform");
    assert_eq!(bits(&one), bits(&whole));
}

#[test]
fn threads_do_not_change_a_bit() {
    let golden = Golden::open("code2wav");
    let codes = golden.ids("code2wav.codes");
    let vocoder = vocoder();
    let run = |threads| {
        with_threads(threads, || vocoder.decode(&codes, codes.len() / 4)).expect("a waveform")
    };
    let one = bits(&run(1));
    assert_eq!(one, bits(&run(2)));
    assert_eq!(one, bits(&run(5)));
}

/// Sound does not look ahead: frames to come change no sample that a shorter clip has too.
#[test]
fn frames_to_come_change_nothing() {
    let golden = Golden::open("code2wav");
    let codes = golden.ids("code2wav.codes");
    let (vocoder, frames) = (vocoder(), codes.len() / 4);
    let whole = vocoder.decode(&codes, frames).expect("a waveform");
    let shorter: Vec<u32> = codes
        .chunks(frames)
        .flat_map(|group| group[..5].to_vec())
        .collect();
    let shorter = vocoder.decode(&shorter, 5).expect("a waveform");
    assert_eq!(bits(&whole[..shorter.len()]), bits(&shorter));
    assert!(whole.len() > shorter.len());
}

#[test]
fn clips_of_no_frames_and_of_one_are_sound() {
    let vocoder = vocoder();
    assert!(vocoder.decode(&[], 0).expect("nothing").is_empty());
    let one = vocoder.decode(&[1, 2, 3, 4], 1).expect("a waveform");
    assert_eq!(one.len(), 1920 - 555);
}

#[test]
fn codes_that_are_not_sound_are_named() {
    let vocoder = vocoder();
    let error = vocoder.decode(&[0; 7], 2).expect_err("7 codes");
    assert!(
        error.to_string().contains("4 groups of 2 frames"),
        "{error}"
    );
    let mut codes = [0; 8];
    codes[5] = 64;
    let expected = CodesError::Code {
        code: 64,
        group: 2,
        frame: 1,
        codebook_size: 64,
    };
    assert_eq!(vocoder.decode(&codes, 2), Err(expected.clone()));
    assert_eq!(vocoder.decode_chunked(&codes, 2, 1, 0), Err(expected));
    assert_eq!(
        vocoder.decode_chunked(&[0; 8], 2, 0, 0),
        Err(CodesError::NoChunk)
    );
}

#[test]
fn sizes_are_those_of_the_files_and_of_the_release() {
    let source = source();
    let weights = Code2Wav::weights_bytes(source.as_ref()).expect("bytes");
    let named = source
        .tensor_names()
        .into_iter()
        .filter(|name| name.starts_with("code2wav."));
    let stored: u64 = named
        .map(|name| source.tensor(name).expect(name).bytes)
        .sum();
    assert_eq!(weights, stored);
    let mut released = source.config().code2wav.clone().expect("a vocoder");
    (released.hidden_size, released.intermediate_size) = (1024, 3072);
    (released.num_attention_heads, released.num_key_value_heads) = (16, 16);
    (released.decoder_dim, released.num_quantizers) = (1536, 16);
    assert_eq!(Code2Wav::samples(&released, 300), 1920 * 300 - 555);
    // The last block's signal of 96 channels, once; a second copy would be 239 MB more.
    let bytes = Code2Wav::workspace_bytes(&released, 325);
    let signal = (Code2Wav::samples(&released, 325) * 96 * 4) as u64;
    assert!(
        bytes > signal && bytes < 2 * signal,
        "{bytes} for a signal of {signal}"
    );
    assert!(Code2Wav::workspace_bytes(&released, 25) < bytes / 5);
}

#[test]
fn a_model_that_does_not_speak_says_so() {
    let thinker = folder().with_file_name("tiny-thinker");
    let source = sage::store::open_model(thinker).expect("a model");
    let error = Code2Wav::load(source.as_ref()).expect_err("no vocoder");
    assert!(error.to_string().contains("code2wav_config"), "{error}");
    assert!(Code2Wav::weights_bytes(source.as_ref()).is_err());
}
