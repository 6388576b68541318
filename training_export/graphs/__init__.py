"""The exported graph: the policy's network, its head, and both files."""
