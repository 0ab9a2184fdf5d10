//! Values by text, without the texts: tens of thousands of phrases would take more memory than all else that is idle.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use xxhash_rust::xxh3::xxh3_64;

use crate::keys::KeyHasher;

/// Values by the 64-bit hash of a text. That a text shares the hash of one of 30,000 phrases by chance is less likely
/// than one in 10^14.
#[derive(Debug, Default)]
pub struct HashedTexts<V>(HashMap<u64, V, BuildHasherDefault<KeyHasher>>);

impl<V> HashedTexts<V> {
    pub fn get(&self, text: &str) -> Option<&V> {
        self.0.get(&xxh3_64(text.as_bytes()))
    }
}

impl<V: Default> HashedTexts<V> {
    /// The value of a text, made if there was none.
    pub fn entry(&mut self, text: &str) -> &mut V {
        self.0.entry(xxh3_64(text.as_bytes())).or_default()
    }
}
