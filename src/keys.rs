//! Hashes as keys: what is looked up is known by its hash alone, so the texts need not be kept. That holds against
//! accident, not against somebody who searches for collisions: who can write messages can write "stop" as well.

use std::hash::Hasher;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// A key of 128 bits: no two texts of a deployment's lifetime will share one by accident.
pub(crate) fn hash_parts(parts: &[&str]) -> u128 {
    // Hashing one run of bytes is faster than hashing part by part, though they are copied for it.
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| size_of::<u64>() + part.len()).sum());
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    xxh3_128(&bytes)
}

/// Hashes keys that are hashes already: to hash them again would only cost time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
