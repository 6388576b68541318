"""Parts of `benchmarks.serving` and `benchmarks.engine`: our server beside others, and today beside yesterday."""
