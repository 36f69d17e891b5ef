//! Many things in pieces: growing never copies them all, and they can be let go of a few at a time.

use std::collections::VecDeque;

/// Things in one piece.
const CHUNK: usize = 256;

/// A list that grows at its end and is taken from its front, at the same cost each time.
#[derive(Debug)]
pub(in crate::shard) struct Chunked<T> {
    chunks: VecDeque<VecDeque<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
        }
    }
}

impl<T> Chunked<T> {
    pub(super) fn push(&mut self, value: T) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push_back(value),
            _ => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(value);
                self.chunks.push_back(chunk);
            }
        }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    /// Whether it takes long to drop.
    pub(super) fn is_large(&self) -> bool {
        self.chunks.len() > 4
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        let value = chunk.pop_front();
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_in_order_and_is_gone_then() {
        let mut list = Chunked::default();
        (0..1_000).for_each(|number| list.push(number));
        for number in 0..1_000 {
            assert_eq!(list.front(), Some(&number));
            assert_eq!(list.pop(), Some(number));
        }
        assert_eq!(list.front(), None);
        assert_eq!(list.pop(), None);
        assert!(list.chunks.is_empty());
    }
}
