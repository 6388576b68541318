"""The rules of versions, stages, references and the journal. Pure: no MLflow."""
