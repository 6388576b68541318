"""What a candidate has to show before it drives. Pure: no MLflow."""
