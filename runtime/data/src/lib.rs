//! Documents, tokenizers, token shards.
