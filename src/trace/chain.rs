//! The chain of digests: every line vouches for all lines before it.

/// Bytes of a digest: the beginning of a BLAKE3 hash.
const BYTES: usize = 16;

/// Where a chain has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain([u8; BYTES]);

impl Chain {
    /// The chain with one more body.
    #[must_use]
    pub fn and(self, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(body);
        Self::of_hash(&hasher)
    }

    /// The digest of something that stands alone.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes);
        Self::of_hash(&hasher)
    }

    fn of_hash(hasher: &blake3::Hasher) -> Self {
        let mut digest = [0; BYTES];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..BYTES]);
        Self(digest)
    }

    /// 32 lowercase hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
