"""`python -m carla_agent drive`: a policy drives in a simulator, and what happened is told."""
