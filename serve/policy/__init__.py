"""The policy that is served: loaded, verified, swapped."""
