"""Answers requests: gunicorn + Flask around the engine."""
