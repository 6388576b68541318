"""Access to MLflow's registry and evaluations, and the cache of downloaded artifacts."""
