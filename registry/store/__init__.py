"""MLflow's registry, and the cache of what was downloaded from it."""
