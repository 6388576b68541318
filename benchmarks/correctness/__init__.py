"""Parts of `benchmarks.gates`: how often a decision is wrong."""
