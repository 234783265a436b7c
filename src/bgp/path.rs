//! AS_PATH: which systems a route has come through (RFC 4271 section 5.1.2, RFC 6793).

use std::fmt;

use super::bytes::Bytes;
use super::is_private_asn;

/// A piece of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// In this order, the last system that was passed first.
    Sequence(Vec<u32>),
    /// In no order: what an aggregate was made of.
    Set(Vec<u32>),
}

impl Segment {
    fn numbers(&self) -> &[u32] {
        match self {
            Segment::Sequence(numbers) | Segment::Set(numbers) => numbers,
        }
    }

    /// How many hops it is: a set is one.
    fn hops(&self) -> usize {
        match self {
            Segment::Sequence(numbers) => numbers.len(),
            Segment::Set(_) => 1,
        }
    }
}

/// The systems that a route has come through, the nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsPath(pub Vec<Segment>);

impl AsPath {
    /// Hops, as paths are compared: a set is one.
    pub fn hops(&self) -> usize {
        self.0.iter().map(Segment::hops).sum()
    }

    /// All numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|segment| segment.numbers().iter().copied())
    }

    /// The system that the route came from, if the path begins with a sequence.
    pub fn nearest(&self) -> Option<u32> {
        match self.0.first()? {
            Segment::Sequence(numbers) => numbers.first().copied(),
            Segment::Set(_) => None,
        }
    }

    /// The path without private numbers.
    pub fn without_private(&self) -> AsPath {
        let kept = |numbers: &[u32]| numbers.iter().copied().filter(|n| !is_private_asn(*n)).collect();
        let segments = self.0.iter().map(|segment| match segment {
            Segment::Sequence(numbers) => Segment::Sequence(kept(numbers)),
            Segment::Set(numbers) => Segment::Set(kept(numbers)),
        });
        AsPath(segments.filter(|segment| !segment.numbers().is_empty()).collect())
    }

    /// Reads a path; says what is wrong with it (RFC 7606 section 7.2, RFC 7607). Segments of confederations are a fault, or
    /// in AS4_PATH are left out (RFC 6793 section 6).
    pub(super) fn decode(
        value: &[u8],
        four_octet: bool,
        skip_confederation: bool,
    ) -> Result<AsPath, &'static str> {
        let mut bytes = Bytes(value);
        let mut segments = Vec::new();
        while let Some(kind) = bytes.u8() {
            let count = bytes.u8().ok_or("a segment is cut")?;
            if count == 0 {
                return Err("a segment is empty");
            }
            let numbers: Option<Vec<u32>> = (0..count).map(|_| bytes.asn(four_octet)).collect();
            let numbers = numbers.ok_or("a segment is longer than the attribute")?;
            if numbers.contains(&0) {
                return Err("AS 0");
            }
            match kind {
                1 => segments.push(Segment::Set(numbers)),
                2 => segments.push(Segment::Sequence(numbers)),
                3 | 4 if skip_confederation => {}
                _ => return Err("an unknown kind of segment"),
            }
        }
        Ok(AsPath(segments))
    }

    /// The path that a speaker of two octets and those behind it have told together (RFC 6793 section 4.2.3): as much of this
    /// one as it has more hops, then all of `behind`.
    pub(super) fn reconstructed(self, behind: AsPath) -> AsPath {
        let Some(mut more) = self.hops().checked_sub(behind.hops()) else { return self };
        let mut segments = Vec::new();
        for segment in self.0 {
            if more == 0 {
                break;
            }
            match segment {
                Segment::Sequence(mut numbers) => {
                    numbers.truncate(more);
                    more -= numbers.len();
                    segments.push(Segment::Sequence(numbers));
                }
                set => {
                    more -= 1;
                    segments.push(set);
                }
            }
        }
        for segment in behind.0 {
            match (segments.last_mut(), segment) {
                (Some(Segment::Sequence(last)), Segment::Sequence(numbers)) => last.extend(numbers),
                (_, segment) => segments.push(segment),
            }
        }
        AsPath(segments)
    }
}

impl fmt::Display for AsPath {
    /// `65010 65011 {65012,65013}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, segment) in self.0.iter().enumerate() {
            let texts: Vec<String> = segment.numbers().iter().map(u32::to_string).collect();
            f.write_str(if number == 0 { "" } else { " " })?;
            match segment {
                Segment::Sequence(_) => f.write_str(&texts.join(" "))?,
                Segment::Set(_) => write!(f, "{{{}}}", texts.join(","))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AsPath {
        let mut segments = Vec::new();
        for word in text.split(' ').filter(|w| !w.is_empty()) {
            if let Some(set) = word.strip_prefix('{') {
                let numbers = set.trim_end_matches('}').split(',').map(|n| n.parse().unwrap()).collect();
                segments.push(Segment::Set(numbers));
            } else if let Some(Segment::Sequence(last)) = segments.last_mut() {
                last.push(word.parse().unwrap());
            } else {
                segments.push(Segment::Sequence(vec![word.parse().unwrap()]));
            }
        }
        AsPath(segments)
    }

    #[test]
    fn paths_are_counted_stripped_and_shown() {
        let p = path("65010 7 {8,64512} 4200000000 9");
        assert_eq!((p.hops(), p.nearest(), p.numbers().count()), (5, Some(65010), 6));
        assert_eq!(p.without_private().to_string(), "65010 7 {8} 9".replace("65010 ", ""));
        assert_eq!(p.to_string(), "65010 7 {8,64512} 4200000000 9");
        assert_eq!(path("64512 {65534}").without_private(), AsPath::default());
        for (asn, private) in [
            (64511, false),
            (64512, true),
            (65534, true),
            (65535, false),
            (4_199_999_999, false),
            (4_200_000_000, true),
            (4_294_967_294, true),
            (u32::MAX, false),
        ] {
            assert_eq!(is_private_asn(asn), private, "{asn}");
        }
        assert_eq!((path("{1} 2").nearest(), AsPath::default().nearest()), (None, None));
    }

    #[test]
    fn long_numbers_come_back_from_behind_short_ones() {
        let rows = [
            ("7 23456 23456", "400000 400001", "7 400000 400001"),
            ("7 8", "", "7 8"),
            ("7 23456", "7 8 400000", "7 23456"),
            ("7 {8,9} 23456", "400000", "7 {8,9} 400000"),
            ("7 8 {23456}", "{400000}", "7 8 {400000}"),
            ("23456", "400000", "400000"),
        ];
        for (short, long, expected) in rows {
            assert_eq!(path(short).reconstructed(path(long)), path(expected), "{short} and {long}");
        }
    }

    #[test]
    fn malformed_paths_are_told() {
        let rows: [(&[u8], Option<&str>); 8] = [
            (&[], None),
            (&[2, 1, 0, 7], None),
            (&[2], Some("a segment is cut")),
            (&[2, 0], Some("a segment is empty")),
            (&[2, 2, 0, 7], Some("a segment is longer than the attribute")),
            (&[2, 1, 0, 7, 1], Some("a segment is cut")),
            (&[3, 1, 0, 7], Some("an unknown kind of segment")),
            (&[2, 1, 0, 0], Some("AS 0")),
        ];
        for (value, fault) in rows {
            assert_eq!(AsPath::decode(value, false, false).err(), fault, "{value:?}");
        }
        let skipped = AsPath::decode(&[3, 1, 0, 0, 0, 7, 2, 1, 0, 0, 0, 8], true, true);
        assert_eq!(skipped, Ok(path("8")));
    }
}
