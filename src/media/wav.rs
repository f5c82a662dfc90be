//! Sound into a file as it is made: WAV, 16 bits, one channel.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// Bytes before the samples: `RIFF`, `fmt ` and `data` with their sizes.
const HEADER_BYTES: u32 = 44;

/// Bytes of a sample.
const SAMPLE_BYTES: u32 = 2;

/// Why a file of sound is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}")]
pub struct WavError {
    /// What was tried.
    doing: &'static str,
    /// The file.
    path: PathBuf,
    /// The system's error.
    source: std::io::Error,
}

/// A file that takes sound as it comes and gets its name only when it is whole and on disk; dropped before that, nothing is left.
#[derive(Debug)]
pub struct WavWriter {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    rate_hz: u32,
    samples: u64,
}

impl WavWriter {
    /// A file beside `path`, for `rate_hz` samples a second.
    ///
    /// # Errors
    /// When the folder is not there or cannot be written to, or `path` is a folder.
    pub fn create(path: &Path, rate_hz: u32) -> Result<Self, WavError> {
        let error = |source| WavError {
            doing: "write",
            path: path.to_owned(),
            source,
        };
        // A device must not give way to a file.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(error(std::io::Error::other(
                "it is a folder, a device or a pipe; name a file",
            )));
        }
        let mut builder = Builder::new();
        // What the system leaves of it is for the user to say.
        builder.permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(folder(path)).map_err(error)?;
        let mut writer = Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            rate_hz,
            samples: 0,
        };
        writer.header(0).map_err(error)?;
        Ok(writer)
    }

    /// Adds samples in [-1, 1], rounded to 16 bits; what is beyond is cut.
    ///
    /// # Errors
    /// When the system cannot write, or the file would be beyond 4 GiB.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), WavError> {
        self.samples += samples.len() as u64;
        let written = samples
            .iter()
            .try_for_each(|sample| self.file.write_all(&pcm(*sample).to_le_bytes()));
        let written = written.and_then(|()| self.data_bytes().map(|_| ()));
        written.map_err(|source| self.error("write", source))
    }

    /// Puts the file on disk, and gives it its name.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn finish(mut self) -> Result<(), WavError> {
        let whole = self.data_bytes().and_then(|bytes| {
            self.file.seek(SeekFrom::Start(0))?;
            self.header(bytes)?;
            self.file.flush()?;
            self.file.get_ref().as_file().sync_all()
        });
        whole.map_err(|source| self.error("write", source))?;
        let error = |source| WavError {
            doing: "name",
            path: self.path.clone(),
            source,
        };
        let file = self.file.into_inner();
        let file = file.map_err(|failed| error(failed.into_error()))?;
        file.persist(&self.path)
            .map_err(|failed| error(failed.error))?;
        // The name is on disk with its folder.
        let folder = File::open(folder(&self.path)).and_then(|folder| folder.sync_all());
        folder.map_err(error)
    }

    fn header(&mut self, data_bytes: u32) -> std::io::Result<()> {
        let rate = self.rate_hz;
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend(b"RIFF");
        header.extend((HEADER_BYTES - 8 + data_bytes).to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(16u32.to_le_bytes());
        // Plain numbers, one channel.
        header.extend(1u16.to_le_bytes());
        header.extend(1u16.to_le_bytes());
        header.extend(rate.to_le_bytes());
        header.extend((rate * SAMPLE_BYTES).to_le_bytes());
        header.extend((SAMPLE_BYTES as u16).to_le_bytes());
        header.extend((8 * SAMPLE_BYTES as u16).to_le_bytes());
        header.extend(b"data");
        header.extend(data_bytes.to_le_bytes());
        self.file.write_all(&header)
    }

    fn data_bytes(&self) -> std::io::Result<u32> {
        let bytes = self.samples.checked_mul(u64::from(SAMPLE_BYTES));
        let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
        let bytes = bytes.filter(|bytes| *bytes <= u32::MAX - HEADER_BYTES);
        bytes.ok_or_else(|| std::io::Error::other("a WAV file holds at most 4 GiB"))
    }

    fn error(&self, doing: &'static str, source: std::io::Error) -> WavError {
        WavError {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

/// A sample as 16 bits, full scale 32767.
pub fn pcm(sample: f32) -> i16 {
    (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_how_long_it_is_and_holds_every_sample() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sound.wav");
        let mut writer = WavWriter::create(&path, 24_000).expect("a file");
        writer.write(&[0.0, 1.0]).expect("written");
        writer.write(&[-1.0, 2.0, 0.5]).expect("written");
        assert!(!path.exists(), "not before it is whole");
        writer.finish().expect("named");
        let bytes = std::fs::read(&path).expect("a file");
        assert_eq!(bytes.len(), 44 + 10);
        assert_eq!(&bytes[..4], b"RIFF");
        assert_eq!(bytes[4..8], 46u32.to_le_bytes());
        assert_eq!(bytes[24..28], 24_000u32.to_le_bytes());
        assert_eq!(bytes[40..44], 10u32.to_le_bytes());
        let samples: Vec<i16> = bytes[44..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|sample| i16::from_le_bytes(*sample))
            .collect();
        assert_eq!(samples, [0, 32767, -32767, 32767, 16384]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sound.wav");
        drop(WavWriter::create(&path, 24_000).expect("a file"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("files").count(), 0);
        let error = WavWriter::create(&folder.path().join("no/sound.wav"), 24_000);
        assert!(
            error
                .expect_err("no folder")
                .to_string()
                .contains("sound.wav")
        );
    }
}
