"""What is done to an observation before the graph, or in it."""
