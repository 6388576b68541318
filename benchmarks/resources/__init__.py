"""Parts of `benchmarks.soak`: the many mixed requests beside which memory is watched."""
