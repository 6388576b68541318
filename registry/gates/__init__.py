"""The gates that a candidate has to pass before it drives. Pure: no MLflow."""
