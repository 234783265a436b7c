//! What a name on the command line stands for, and sentences for names that stand for nothing.

use crate::model::nearest_name;

/// How many names a sentence lists at most.
const LISTED: usize = 12;

/// There is none of this name; what there is instead.
pub fn missing<'a>(what: &str, name: &str, of: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let count = known.clone().count();
    let mut sentence = format!("{what} '{name}': there is no such {what} {of}");
    match nearest_name(name, known.clone()) {
        Some(near) => sentence.push_str(&format!("; did you mean '{near}'?")),
        None if count == 0 => sentence.push_str("; it has none"),
        None => {
            let listed: Vec<&str> = known.take(LISTED).collect();
            let more = if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
            sentence.push_str(&format!("; there is {}{more}", listed.join(", ")));
        }
    }
    sentence
}
