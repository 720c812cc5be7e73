//! The program alone, frame by frame (BPF_PROG_TEST_RUN).

mod groups;
mod verdicts;
