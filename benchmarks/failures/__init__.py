"""Parts of `benchmarks.faults` and `benchmarks.hostile`: what goes wrong, and who makes it go wrong."""
