"""gunicorn's master process, and the two kinds of workers."""
