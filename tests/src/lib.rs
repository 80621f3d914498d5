//! The test suite: programs and what should happen.
