//! The pipeline on the host model.

mod verdicts;
