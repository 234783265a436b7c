//! Bytes as text in JSON documents: two hexadecimal digits for each.

use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes bytes.
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    let text: String = bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect();
    serializer.serialize_str(&text)
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| de::Error::custom("bytes are pairs of hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bytes(#[serde(with = "super")] Vec<u8>);

    #[test]
    fn all_bytes_survive_the_way() {
        let all = Bytes((0..=255).collect());
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.starts_with("\"000102") && text.ends_with("fdfeff\"") && text.len() == 514);
        assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), all);
        assert_eq!(serde_json::from_str::<Bytes>("\"AbcD\"").unwrap(), Bytes(vec![0xab, 0xcd]));
        assert_eq!(serde_json::from_str::<Bytes>("\"\"").unwrap(), Bytes(vec![]));
        for bad in ["\"abc\"", "\"0x\"", "\"+1\"", "\"ä\"", "7"] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
    }
}
