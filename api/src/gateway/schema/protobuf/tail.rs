//! A buffer that is written from its end, so that a message's length is known before it is written.

/// Bytes in their final order at the end of a buffer that grows towards the front.
pub(super) struct Tail {
    buffer: Vec<u8>,
    start: usize,
}

impl Tail {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity.max(64)], start: capacity.max(64) }
    }

    /// How much is written.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.grow(bytes.len());
        }
        self.start -= bytes.len();
        self.buffer[self.start..self.start + bytes.len()].copy_from_slice(bytes);
    }

    fn grow(&mut self, more: usize) {
        let mut larger = vec![0; (self.buffer.len() * 2).max(self.len() + more)];
        let start = larger.len() - self.len();
        larger[start..].copy_from_slice(&self.buffer[self.start..]);
        (self.buffer, self.start) = (larger, start);
    }

    pub(super) fn varint(&mut self, mut value: u64) {
        let mut bytes = [0_u8; 10];
        let mut length = 0;
        loop {
            bytes[length] = (value & 0x7f) as u8 | if value > 0x7f { 0x80 } else { 0 };
            length += 1;
            value >>= 7;
            if value == 0 {
                return self.push(&bytes[..length]);
            }
        }
    }

    /// A field's number and wire type, before its value.
    pub(super) fn key(&mut self, number: u16, wire: u64) {
        self.varint(u64::from(number) << 3 | wire);
    }

    pub(super) fn varint_field(&mut self, number: u16, value: u64) {
        self.varint(value);
        self.key(number, 0);
    }

    pub(super) fn bytes_field(&mut self, number: u16, bytes: &[u8]) {
        self.push(bytes);
        self.varint(bytes.len() as u64);
        self.key(number, 2);
    }

    /// Closes a message whose content was written since the buffer had `before` bytes.
    pub(super) fn close(&mut self, number: u16, before: usize) {
        self.varint((self.len() - before) as u64);
        self.key(number, 2);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}
