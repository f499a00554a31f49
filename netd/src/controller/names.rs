//! Names for containers that were given none: `adjective_noun`, as Docker's.

use super::{State, lookup::named};
use crate::model::{Id, Name, id::NameError};

const ADJECTIVES: [&str; 32] = [
    "agile", "amber", "bold", "brave", "bright", "calm", "clever", "cosmic", "eager", "early",
    "fair", "fleet", "gentle", "golden", "happy", "hardy", "humble", "jolly", "keen", "kind",
    "lively", "lucid", "merry", "mighty", "nimble", "patient", "quiet", "rapid", "serene",
    "steady", "sunny", "witty",
];

/// People of networks, and of what they are made of.
const NOUNS: [&str; 32] = [
    "baran",
    "berners",
    "boole",
    "cerf",
    "clark",
    "crocker",
    "davies",
    "dijkstra",
    "engelbart",
    "erlang",
    "faraday",
    "floyd",
    "hamming",
    "hopper",
    "jacobson",
    "kahn",
    "kleinrock",
    "knuth",
    "lamarr",
    "lovelace",
    "maxwell",
    "metcalfe",
    "mockapetris",
    "nagle",
    "perlman",
    "postel",
    "ritchie",
    "roberts",
    "shannon",
    "stevens",
    "turing",
    "wirth",
];

/// A name that nobody has, from the container's id.
pub(super) fn generate(state: &State, id: &Id) -> Result<Name, NameError> {
    let seed = id.seed() as usize;
    let (adjectives, nouns) = (ADJECTIVES.len(), NOUNS.len());
    for nth in 0..adjectives * nouns {
        let pick = seed.wrapping_add(nth);
        let adjective = ADJECTIVES[pick % adjectives];
        let noun = NOUNS[pick / adjectives % nouns];
        let name: Name = format!("{adjective}_{noun}").parse()?;
        if named(state, &name).is_none() {
            return Ok(name);
        }
    }
    // All are taken: the id is as unique as the container.
    format!("{}_{}", ADJECTIVES[seed % adjectives], id.short()).parse()
}
