//! Sound files to mono samples.
//!
//! Only lossless formats are read: their samples are exact integers or floats, while decoders of lossy ones compute theirs
//! with sines of the system, whose last bits differ by processor.

use std::io::{Cursor, ErrorKind};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::{SoundError, check_length, check_rate};

/// What the file says of the track that is read.
struct Stated {
    track: u32,
    /// Samples of a channel; none where the file was written without knowing.
    frames: Option<u64>,
    /// Seconds that may be read.
    most_seconds: u32,
}

/// The average of a file's channels, and its samples a second.
pub(super) fn mono(bytes: &[u8], most_seconds: u32) -> Result<(Vec<f32>, u32), SoundError> {
    if bytes.is_empty() {
        return Err(SoundError::NoBytes);
    }
    let unreadable = |reason: String| SoundError::Unreadable {
        bytes: bytes.len(),
        reason,
    };
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .map_err(|error| unreadable(error.to_string()))?;
    let track = format.default_track(TrackType::Audio);
    let track = track.ok_or_else(|| unreadable("it has no track of sound".into()))?;
    let parameters = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let parameters = parameters.ok_or_else(|| unreadable("its codec is unknown".into()))?;
    let rate_hz = parameters.sample_rate.unwrap_or(0);
    check_rate(rate_hz)?;
    let stated = Stated {
        track: track.id,
        frames: track.num_frames,
        most_seconds,
    };
    check_length(stated.frames.unwrap_or(0), rate_hz, most_seconds)?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| unreadable(error.to_string()))?;
    let samples = decode(format.as_mut(), decoder.as_mut(), &stated, rate_hz)?;
    if samples.is_empty() {
        return Err(SoundError::NoFrames);
    }
    Ok((samples, rate_hz))
}

fn decode(
    format: &mut dyn FormatReader,
    decoder: &mut dyn AudioDecoder,
    stated: &Stated,
    rate_hz: u32,
) -> Result<Vec<f32>, SoundError> {
    // What the header states is within bounds, and what is never written takes no memory.
    let mut mono = Vec::with_capacity(stated.frames.unwrap_or(0) as usize);
    let mut interleaved = Vec::<f32>::new();
    loop {
        let damaged = |reason: String| SoundError::Damaged {
            read_frames: mono.len() as u64,
            reason,
        };
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(damaged(error.to_string())),
        };
        if packet.track_id != stated.track {
            continue;
        }
        let decoded = decoder
            .decode(&packet)
            .map_err(|error| damaged(error.to_string()))?;
        let channels = decoded.spec().channels().count();
        if channels == 0 || decoded.spec().rate() != rate_hz {
            return Err(damaged(format!(
                "{channels} channels of {} Hz after {rate_hz} Hz",
                decoded.spec().rate()
            )));
        }
        decoded.copy_to_vec_interleaved(&mut interleaved);
        let frames = interleaved.chunks_exact(channels);
        mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / channels as f32));
        check_length(mono.len() as u64, rate_hz, stated.most_seconds)?;
    }
    match stated.frames {
        Some(stated_frames) if stated_frames > mono.len() as u64 => Err(SoundError::CutShort {
            found_frames: mono.len() as u64,
            stated_frames,
        }),
        _ => Ok(mono),
    }
}
