//! Values by text, without the texts: tens of thousands of phrases and words would take more memory than all else that is idle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

/// Values by the 64-bit hash of a text. That a text shares the hash of one of 30,000 phrases by chance is less likely
/// than one in 10^14.
#[derive(Debug, Default)]
pub struct ByText<V>(HashMap<u64, V, BuildHasherDefault<AsIs>>);

impl<V: Default> ByText<V> {
    pub fn get(&self, text: &str) -> Option<&V> {
        self.0.get(&xxh3_64(text.as_bytes()))
    }

    /// The value of a text, made if there was none.
    pub fn entry(&mut self, text: &str) -> &mut V {
        self.0.entry(xxh3_64(text.as_bytes())).or_default()
    }

    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
