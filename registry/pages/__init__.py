"""Pages for a browser: the history of a policy, and two policies side by side."""
