"""Recording: what was observed and done, from the workers by a ring in shared memory to Parquet files."""
