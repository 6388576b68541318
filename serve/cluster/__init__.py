"""The same server on a cluster's node."""
