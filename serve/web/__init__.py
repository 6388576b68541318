"""The Flask app: routes, pages, and what a request must bring."""
