//! Experiments: training, evaluation, sampling, checkpoints, runs.
