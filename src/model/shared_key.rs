//! The key of a BGP session.

use std::fmt;

/// The key that both ends of a BGP session know (TCP-MD5, RFC 2385): a secret, which nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(String);

impl SharedKey {
    /// Bytes at most: what the kernel takes.
    pub const LONGEST: usize = 80;

    /// A key, unless it is empty or too long.
    pub fn new(text: &str) -> Option<SharedKey> {
        (1..=SharedKey::LONGEST).contains(&text.len()).then(|| SharedKey(text.to_owned()))
    }

    /// The secret itself; for the socket alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = SharedKey::new("s3cret").unwrap();
        assert_eq!((key.expose(), format!("{key:?}").as_str()), ("s3cret", "SharedKey(..)"));
        assert_eq!(SharedKey::new(&"k".repeat(80)).map(|k| k.expose().len()), Some(80));
        assert_eq!((SharedKey::new(""), SharedKey::new(&"k".repeat(81))), (None, None));
    }
}
