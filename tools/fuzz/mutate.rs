//! New inputs from old ones.

/// A small generator of random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 if that is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What inputs of a target look like.
#[derive(Clone, Copy, PartialEq)]
pub enum Shape {
    /// Numbers and lengths.
    Binary,
    /// Lines and words.
    Text,
    /// A few frames.
    Frames,
}

const NUMBERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    12,
    14,
    16,
    20,
    28,
    32,
    60,
    64,
    127,
    128,
    255,
    256,
    1500,
    65_535,
    262_144,
    u64::MAX,
];

/// Changes `input` in a few places. `other` is another input to take pieces of; `words` are pieces that mean something.
pub fn mutate(
    input: &mut Vec<u8>,
    other: &[u8],
    words: &[Vec<u8>],
    shape: Shape,
    longest: usize,
    r: &mut Random,
) {
    for _ in 0..1 + r.below(r_rounds(shape)) {
        if shape == Shape::Text && r.below(3) > 0 {
            text(input, other, words, r);
        } else {
            binary(input, other, words, r);
        }
    }
    input.truncate(longest);
}

fn r_rounds(shape: Shape) -> usize {
    if shape == Shape::Text { 4 } else { 6 }
}

fn binary(input: &mut Vec<u8>, other: &[u8], words: &[Vec<u8>], r: &mut Random) {
    let (at, to) = (r.below(input.len()), r.below(input.len()));
    let most = r.pick(&[4, 16, 64, 1024]);
    let piece = 1 + r.below(most);
    match r.below(13) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << r.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = r.next() as u8;
            }
        }
        2 | 3 => number(input, at, r),
        4 => nudge(input, at, r),
        5 => drop(input.drain(at..(at + piece).min(input.len()))),
        6 => {
            let copy: Vec<u8> = input.iter().skip(at).take(piece).copied().collect();
            insert(input, to, &copy);
        }
        7 => {
            let copy: Vec<u8> = input.iter().skip(at).take(piece).copied().collect();
            overwrite(input, to, &copy);
        }
        8 => {
            let from = r.below(other.len());
            insert(input, at, &other[from..(from + piece).min(other.len())]);
        }
        9 => {
            let from = r.below(other.len());
            overwrite(input, at, &other[from..(from + piece).min(other.len())]);
        }
        10 => {
            let from = r.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        11 if !words.is_empty() => {
            let word = &words[r.below(words.len())];
            if r.below(2) == 0 { insert(input, at, word) } else { overwrite(input, at, word) }
        }
        _ => input.truncate(at),
    }
}

/// A number that is often an edge, in any width and byte order, mostly where numbers are aligned.
fn number(input: &mut [u8], at: usize, r: &mut Random) {
    let value = r.pick(&NUMBERS).wrapping_add(r.pick(&[0, 0, 0, 1, u64::MAX]));
    put(input, at, value, r);
}

/// A number a little beside the one that is there.
fn nudge(input: &mut [u8], at: usize, r: &mut Random) {
    let at = at & !3;
    if let Some(&bytes) = input.get(at..).and_then(|b| b.first_chunk::<4>()) {
        let change = (r.below(16) as u32).wrapping_sub(8);
        let bytes = if r.below(2) == 0 {
            u32::from_le_bytes(bytes).wrapping_add(change).to_le_bytes()
        } else {
            u32::from_be_bytes(bytes).wrapping_add(change).to_be_bytes()
        };
        overwrite(input, at, &bytes);
    }
}

fn put(input: &mut [u8], at: usize, value: u64, r: &mut Random) {
    let width = r.pick(&[1, 2, 4, 4, 8]);
    let at = if r.below(4) > 0 { at - at % width } else { at };
    let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
    let bytes = if r.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
    overwrite(input, at, bytes);
}

fn text(input: &mut Vec<u8>, other: &[u8], words: &[Vec<u8>], r: &mut Random) {
    let all_lines = lines(input);
    let all_tokens = tokens(input);
    let line = r.pick(&all_lines);
    let token = r.pick(&all_tokens);
    let copy = |(start, end): (usize, usize)| input[start..end].to_vec();
    match r.below(8) {
        0 => replace(input, line, b""),
        1 => {
            let (line, to) = (copy(line), r.pick(&all_lines).0);
            insert(input, to, &line);
        }
        2 => {
            let second = r.pick(&all_lines);
            let (a, b) = (copy(line), copy(second));
            if line.1 <= second.0 {
                replace(input, second, &a);
                replace(input, line, &b);
            }
        }
        3 => {
            let (start, end) = r.pick(&lines(other));
            let more = r.below(6) * (end - start);
            insert(input, line.0, &other[start..(end + more).min(other.len())]);
        }
        4 => replace(input, token, &copy(r.pick(&all_tokens))),
        5 if !words.is_empty() => replace(input, token, &words[r.below(words.len())]),
        6 => {
            let value = r.pick(&NUMBERS).wrapping_add(r.pick(&[0, 0, 1, u64::MAX]));
            replace(input, token, value.to_string().as_bytes());
        }
        _ => {
            let (start, end) = r.pick(&tokens(other));
            replace(input, token, &other[start..end]);
        }
    }
}

/// Where the lines are, each with its end; never none.
fn lines(bytes: &[u8]) -> Vec<(usize, usize)> {
    spans(bytes, 1, |b| b == b'\n')
}

/// Where the words are; never none.
fn tokens(bytes: &[u8]) -> Vec<(usize, usize)> {
    spans(bytes, 0, |b| !(b.is_ascii_alphanumeric() || b"-_.:/".contains(&b)))
}

fn spans(bytes: &[u8], kept: usize, separator: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut start = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| separator(**b)) {
        if at + kept > start {
            spans.push((start, at + kept));
        }
        start = at + 1;
    }
    spans.push((start, bytes.len()));
    spans
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, bytes.iter().copied());
}

fn replace(input: &mut Vec<u8>, (start, end): (usize, usize), bytes: &[u8]) {
    input.splice(start.min(input.len())..end.min(input.len()), bytes.iter().copied());
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in input.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

/// Makes a pcapng whole again after a change: the second length of every block is its first, as far as that goes.
pub fn repair_pcapng(input: &mut [u8]) {
    let mut at = 0;
    let mut big_endian = false;
    while let Some(&[kind, _, _, _, a, b, c, d, m, _, _, _]) =
        input.get(at..).and_then(|b| b.first_chunk::<12>())
    {
        if kind == 0x0a {
            big_endian = m == 0x1a;
        }
        let length =
            if big_endian { u32::from_be_bytes([a, b, c, d]) } else { u32::from_le_bytes([a, b, c, d]) };
        let end = at + length as usize;
        if length < 12 || end > input.len() {
            return;
        }
        overwrite(input, end - 4, &[a, b, c, d]);
        at = end;
    }
}
