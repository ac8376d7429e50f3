//! Names contents by short digests.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The first 128 bits of a SHA-256: short enough for a store of thousands, and nobody can make two contents meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 16]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Hasher::new("").bytes(bytes).finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        let text: String = self.0.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect();
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no digest");
        let hex = text.as_bytes();
        if hex.len() != 32 {
            return Err(wrong());
        }
        let half = |c: u8| (c as char).to_digit(16).map(|n| n as u8).ok_or_else(wrong);
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = half(pair[0])? << 4 | half(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Takes parts one after the other; each counts with its length, so that `ab`, `c` is not `a`, `bc`.
#[derive(Clone)]
pub struct Hasher(hmac_sha256::Hash);

impl Hasher {
    /// A digest of another `kind` never equals one of this kind.
    pub fn new(kind: &str) -> Self {
        Self(hmac_sha256::Hash::new()).bytes(kind.as_bytes())
    }

    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        self.put(part);
        self
    }

    pub fn put(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    pub fn finish(self) -> Digest {
        let full = self.0.finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        Digest(short)
    }
}

impl Digest {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_survive_their_text_and_parts_keep_their_borders() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("zz".parse::<Digest>().is_err());
        let parts = |a: &[u8], b: &[u8]| Hasher::new("k").bytes(a).bytes(b).finish();
        assert_ne!(parts(b"ab", b"c"), parts(b"a", b"bc"));
    }
}
