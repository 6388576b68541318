"""One request's observations to its answer: decoded, run, encoded."""
