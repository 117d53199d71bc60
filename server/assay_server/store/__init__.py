"""What outlives the process, as files: datasets, pooled features, audits, decisions. See docs/store.md for the layout."""
