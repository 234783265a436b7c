//! Finds prefixes that share addresses among many.

use crate::types::Prefix;

/// The pairs of prefixes that overlap: each prefix with the smallest earlier one that covers it, by index.
///
/// Two prefixes either share nothing or one covers the other, so in the order of their first addresses the prefixes that
/// cover the next one are a stack.
pub fn overlaps(prefixes: &[Prefix]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..prefixes.len()).collect();
    order.sort_by_key(|&i| prefixes.get(i).map(|p| (p.first(), p.len(), i)));
    let mut stack: Vec<(usize, Prefix)> = Vec::new();
    let mut pairs = Vec::new();
    for i in order {
        let Some(&prefix) = prefixes.get(i) else { continue };
        while stack.last().is_some_and(|(_, top)| !top.covers(&prefix)) {
            stack.pop();
        }
        if let Some(&(top, _)) = stack.last() {
            pairs.push((top, i));
        }
        stack.push((i, prefix));
    }
    pairs
}

/// The first pair, in the order of the first list, of prefixes that overlap between two lists.
pub fn between(left: &[Prefix], right: &[Prefix]) -> Option<(Prefix, Prefix)> {
    left.iter().find_map(|a| right.iter().find(|b| a.overlaps(b)).map(|b| (*a, *b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_covers() {
        let p = |s: &str| s.parse::<Prefix>().unwrap();
        let list = [
            p("10.0.1.0/24"),
            p("fd00::/48"),
            p("10.0.0.0/16"),
            p("10.1.0.0/16"),
            p("10.0.1.0/24"),
            p("::/0"),
        ];
        assert_eq!(overlaps(&list), [(2, 0), (0, 4), (5, 1)]);
        assert_eq!(between(&list[..2], &list[2..3]), Some((list[0], list[2])));
        assert_eq!(between(&list[..1], &list[3..4]), None);
    }
}
