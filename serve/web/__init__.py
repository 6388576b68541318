"""The Flask app: routes, pages, and the checks that each request must pass."""
