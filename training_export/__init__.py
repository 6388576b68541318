"""Makes policies: trains them, evaluates them, and exports them as artifacts."""
