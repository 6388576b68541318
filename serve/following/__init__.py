"""Which version is served: followed in the registry, tried apart, taken by each worker."""
