//! Metrics tables and Parquet.
