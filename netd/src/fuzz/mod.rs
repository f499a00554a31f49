//! What reads the text of others, fed with any bytes: the API's requests,
//! Docker's calls, and the plans that they become; ports, subnets, the configuration.
//!
//! A fuzzer drives the functions of [`TARGETS`] (`cargo xtask fuzz`); a breach
//! of what each asserts is a panic. The tests play what fuzzers have kept.

mod api;
mod bytes;
mod config;
mod plugin;
mod ports;
mod subnets;

/// A target's name, and what plays an input of its.
pub type Target = (&'static str, fn(&[u8]));

/// All of them: `fuzz/corpus/NAME.bin` is what was kept.
pub const TARGETS: [Target; 5] = [
    ("api", api::play),
    ("config", config::play),
    ("plugin", plugin::play),
    ("ports", ports::play),
    ("subnets", subnets::play),
];

/// Plays `data` for the target of this name.
///
/// # Panics
///
/// Where a rule is broken, and for a name that is none of [`TARGETS`].
pub fn play(name: &str, data: &[u8]) {
    let (_, play) = TARGETS.iter().find(|(it, _)| *it == name).expect("a target of this name");
    play(data);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Inputs one after the other, each behind its length (four bytes,
    /// big-endian).
    fn unpack(mut corpus: &[u8]) -> Option<Vec<&[u8]>> {
        let mut inputs = Vec::new();
        while let Some((len, rest)) = corpus.split_first_chunk::<4>() {
            let (input, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
            inputs.push(input);
            corpus = rest;
        }
        corpus.is_empty().then_some(inputs)
    }

    #[test]
    fn no_input_of_the_corpora_breaks_a_rule() {
        for (name, play) in TARGETS {
            let file = format!("../fuzz/corpus/{name}.bin");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let corpus = fs::read(&file).unwrap();
            let inputs = unpack(&corpus).expect("the corpus is whole");
            assert!(inputs.len() > 100, "{name}: only {} inputs", inputs.len());
            inputs.into_iter().for_each(play);
        }
    }
}
