"""What may follow what: versions, stages, references, the journal. Pure: no MLflow."""
