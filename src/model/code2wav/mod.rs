//! The vocoder: codec frames to a waveform.
//!
//! A windowed transformer over frames, then convolutions that stretch them into samples. Whole clips or chunks with some
//! frames of context before them; the two differ in length and slightly in value, as in the reference implementation.

mod conv;
mod probe;
mod stages;
mod transformer;

use super::load::{LoadError, Loader, resident_bytes};
use crate::checkpoint::Component;
use crate::checkpoint::config::Code2WavConfig;
use crate::kernels::Matrix;
use crate::kernels::pointwise::add_scaled;
use crate::store::WeightSource;
use conv::{Conv, Snake, tasks_bytes};
use probe::tell;
use stages::{TAPS, Upsample, VocoderBlock};
use transformer::Transformer;

pub use probe::Probe;

pub use super::speech::{
    CHUNK_FRAMES, CodesError, LEFT_CONTEXT_FRAMES, SAMPLE_RATE_HZ, VocoderChunk, chunks,
};

/// The vocoder's weights; owns nothing that grows with a clip.
#[derive(Debug)]
pub struct Code2Wav {
    /// The configuration.
    pub config: Code2WavConfig,
    /// `code_embedding`, `[groups * codebook_size, hidden]`.
    code_embedding: Matrix,
    transformer: Transformer,
    upsample: Vec<Upsample>,
    /// `decoder.0`.
    first: Conv,
    blocks: Vec<VocoderBlock>,
    /// `decoder.{rates + 1}`.
    act: Snake,
    /// `decoder.{rates + 2}`.
    last: Conv,
}

impl Code2Wav {
    /// Loads the vocoder.
    ///
    /// # Errors
    /// When the model has none, or a tensor is missing, misshapen, damaged, or stored in a format without kernels.
    pub fn load(source: &dyn WeightSource) -> Result<Self, LoadError> {
        let config = config_of(source)?.clone();
        let loader = Loader::new(source);
        let hidden = config.hidden_size;
        let mut channels = config.decoder_dim;
        let first = Conv::causal(
            &loader,
            "code2wav.decoder.0.conv",
            [channels, hidden],
            TAPS,
            1,
        )?;
        let mut blocks = Vec::with_capacity(config.upsample_rates.len());
        for (at, rate) in config.upsample_rates.iter().enumerate() {
            blocks.push(VocoderBlock::load(&loader, at + 1, channels, *rate)?);
            channels /= 2;
        }
        let (act, last) = (blocks.len() + 1, blocks.len() + 2);
        let upsample = config.upsampling_ratios.iter().enumerate();
        Ok(Self {
            code_embedding: loader.matrix(
                "code2wav.code_embedding.weight",
                config.codebook_size * config.num_quantizers,
                hidden,
            )?,
            transformer: Transformer::load(&loader, &config)?,
            upsample: upsample
                .map(|(at, ratio)| Upsample::load(&loader, at, hidden, *ratio))
                .collect::<Result<_, _>>()?,
            first,
            blocks,
            act: Snake::load(&loader, &format!("code2wav.decoder.{act}"), channels)?,
            last: Conv::causal(
                &loader,
                &format!("code2wav.decoder.{last}.conv"),
                [1, channels],
                TAPS,
                1,
            )?,
            config,
        })
    }

    /// Bytes of the weights that [`Self::load`] will read and keep.
    ///
    /// # Errors
    /// When the model has no vocoder, or a tensor that the configuration asks for is missing.
    pub fn weights_bytes(source: &dyn WeightSource) -> Result<u64, LoadError> {
        config_of(source)?;
        resident_bytes(source, |tensor| tensor.component == Component::Code2Wav)
    }

    /// Samples that one frame stretches to, before the ends are trimmed (released: 1920).
    pub fn samples_per_frame(config: &Code2WavConfig) -> usize {
        let strides = config
            .upsampling_ratios
            .iter()
            .chain(&config.upsample_rates);
        strides.product()
    }

    /// Samples of a clip of `frames` frames decoded whole: every decoder block makes `(n - 1) * rate` of n
    /// (released: `1920 * frames - 555`).
    pub fn samples(config: &Code2WavConfig, frames: usize) -> usize {
        let stretched = config.upsampling_ratios.iter().product::<usize>() * frames;
        let rates = config.upsample_rates.iter();
        rates.fold(stretched, |rows, rate| rows.saturating_sub(1) * rate)
    }

    /// Bytes at most that decoding `frames` frames at once takes beside the weights, the waveform included; of a chunk,
    /// its context counts. The number of threads does not matter.
    pub fn workspace_bytes(config: &Code2WavConfig, frames: usize) -> u64 {
        let number = size_of::<f32>();
        let mut most = Transformer::workspace_bytes(config, frames);
        let mut rows = frames;
        for ratio in &config.upsampling_ratios {
            most = most.max(Upsample::workspace_bytes(rows, config.hidden_size, *ratio));
            rows *= ratio;
        }
        let mut channels = config.decoder_dim;
        let conv_bytes = |rows: usize, channels: usize, out: usize| {
            rows * (channels + out) * number + tasks_bytes(rows, TAPS * channels, 0)
        };
        most = most.max(conv_bytes(rows, config.hidden_size, channels));
        for rate in &config.upsample_rates {
            most = most.max(VocoderBlock::workspace_bytes(rows, channels, *rate));
            rows = rows.saturating_sub(1) * rate;
            channels /= 2;
        }
        most = most.max(conv_bytes(rows, channels, 1));
        // The codes themselves, in the order that a chunk wants them.
        let codes = frames * config.num_quantizers * size_of::<u32>();
        (most + codes) as u64
    }

    /// The waveform of `codes` `[groups, frames]`, row-major: [`Self::samples`] numbers in [-1, 1] at
    /// [`SAMPLE_RATE_HZ`], mono.
    ///
    /// # Errors
    /// When the codes are not such a table, or one is beyond the codebook.
    pub fn decode(&self, codes: &[u32], frames: usize) -> Result<Vec<f32>, CodesError> {
        self.run(codes, frames, None)
    }

    /// As [`Self::decode`], with every intermediate result told to `probe`.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_probed(
        &self,
        codes: &[u32],
        frames: usize,
        probe: Probe<'_>,
    ) -> Result<Vec<f32>, CodesError> {
        self.run(codes, frames, Some(probe))
    }

    /// The waveform piece by piece, [`chunks`] joined: memory is that of one chunk. Released: [`CHUNK_FRAMES`] and
    /// [`LEFT_CONTEXT_FRAMES`]. Every chunk is as much shorter as a whole clip would be.
    ///
    /// # Errors
    /// As [`Self::decode`]; also when `chunk` is 0.
    pub fn decode_chunked(
        &self,
        codes: &[u32],
        frames: usize,
        chunk: usize,
        left_context: usize,
    ) -> Result<Vec<f32>, CodesError> {
        if chunk == 0 {
            return Err(CodesError::NoChunk);
        }
        self.check(codes, frames)?;
        let mut waveform = Vec::new();
        for chunk in chunks(frames, chunk, left_context) {
            waveform.extend(self.decode_chunk(codes, frames, &chunk)?);
        }
        Ok(waveform)
    }

    /// The samples of one chunk of `codes` `[groups, frames]`, for whoever plays while more is being made.
    ///
    /// # Errors
    /// As [`Self::decode`]. Panics when the chunk is not within the frames.
    pub fn decode_chunk(
        &self,
        codes: &[u32],
        frames: usize,
        chunk: &VocoderChunk,
    ) -> Result<Vec<f32>, CodesError> {
        self.check(codes, frames)?;
        let span = chunk.frames.start - chunk.context..chunk.frames.end;
        let groups = codes.chunks_exact(frames.max(1));
        let piece: Vec<u32> = groups
            .flat_map(|group| group[span.clone()].iter().copied())
            .collect();
        let mut samples = self.decode(&piece, span.len())?;
        let dropped = chunk.context * Self::samples_per_frame(&self.config);
        samples.drain(..dropped.min(samples.len()));
        Ok(samples)
    }

    fn run(
        &self,
        codes: &[u32],
        frames: usize,
        mut probe: Option<Probe<'_>>,
    ) -> Result<Vec<f32>, CodesError> {
        self.check(codes, frames)?;
        let x = self.embed(codes, frames);
        if let Some(probe) = &mut probe {
            probe("code2wav.embedding_mean", &x);
        }
        let mut x = self.transformer.apply(x, &mut probe);
        if let Some(probe) = &mut probe {
            probe("code2wav.pre_transformer_out", &x);
        }
        for (at, stage) in self.upsample.iter().enumerate() {
            x = stage.apply(x);
            tell(&mut probe, "upsample_out", at, &x, self.config.hidden_size);
        }
        let mut channels = self.config.decoder_dim;
        x = self.first.apply(&x);
        tell(&mut probe, "decoder_out", 0, &x, channels);
        for (at, block) in self.blocks.iter().enumerate() {
            x = block.apply(x);
            channels /= 2;
            tell(&mut probe, "decoder_out", at + 1, &x, channels);
        }
        let after = self.blocks.len() + 1;
        self.act.apply(&mut x);
        tell(&mut probe, "decoder_out", after, &x, channels);
        x = self.last.apply(&x);
        tell(&mut probe, "decoder_out", after + 1, &x, 1);
        x.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
        Ok(x)
    }

    fn check(&self, codes: &[u32], frames: usize) -> Result<(), CodesError> {
        let groups = self.config.num_quantizers;
        if Some(codes.len()) != groups.checked_mul(frames) {
            return Err(CodesError::Shape {
                found: codes.len(),
                groups,
                frames,
            });
        }
        let codebook_size = self.config.codebook_size;
        match codes
            .iter()
            .position(|code| *code as usize >= codebook_size)
        {
            Some(at) => Err(CodesError::Code {
                code: codes[at],
                group: at / frames,
                frame: at % frames,
                codebook_size,
            }),
            None => Ok(()),
        }
    }

    /// Mean over groups of the codes' vectors, `[frames, hidden]`.
    fn embed(&self, codes: &[u32], frames: usize) -> Vec<f32> {
        let (hidden, groups) = (self.config.hidden_size, self.config.num_quantizers);
        let mut out = vec![0.0; frames * hidden];
        let mut vector = vec![0.0; hidden];
        for (frame, out) in out.chunks_exact_mut(hidden).enumerate() {
            for group in 0..groups {
                let code = codes[group * frames + frame] as usize;
                let row = group * self.config.codebook_size + code;
                self.code_embedding.view().widen_row(row, &mut vector);
                add_scaled(out, &vector, 1.0);
            }
            out.iter_mut().for_each(|x| *x /= groups as f32);
        }
        out
    }
}

fn config_of(source: &dyn WeightSource) -> Result<&Code2WavConfig, LoadError> {
    source.config().code2wav.as_ref().ok_or(LoadError::Absent {
        component: Component::Code2Wav,
        key: "code2wav_config",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_cut_as_released() {
        let chunk = |context, frames| VocoderChunk { context, frames };
        let cut: Vec<VocoderChunk> = chunks(620, 300, 25).collect();
        let expected = [chunk(0, 0..300), chunk(25, 300..600), chunk(25, 600..620)];
        assert_eq!(cut, expected);
        // The beginning is all context there is.
        let cut: Vec<VocoderChunk> = chunks(25, 10, 15).collect();
        assert_eq!(cut, [chunk(0, 0..10), chunk(10, 10..20), chunk(15, 20..25)]);
        assert_eq!(chunks(0, 300, 25).count() + chunks(5, 0, 25).count(), 0);
    }
}
