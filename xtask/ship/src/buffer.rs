//! Memory that direct I/O takes.

/// What direct I/O wants addresses to be a multiple of; no drive has larger sectors. Bytes.
const ALIGNMENT: usize = 4096;

/// Zeros at an address that direct I/O takes. A larger `Vec` is cut, because an aligned one takes `unsafe`.
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().addr().next_multiple_of(ALIGNMENT) - bytes.as_ptr().addr();
        Self { bytes, start, length }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}
