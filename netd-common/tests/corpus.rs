//! Everything that the fuzzer has found worth keeping, played again.

use netd_common::model::fuzz;

const CORPUS: &[u8] = include_bytes!("../../fuzz/corpus/pipeline.bin");

#[test]
fn no_input_of_the_corpus_breaks_a_rule() {
    let inputs = fuzz::unpack(CORPUS).expect("the corpus is whole");
    assert!(inputs.len() > 1000, "only {} inputs", inputs.len());
    for input in inputs {
        fuzz::play(input);
    }
}
