"""Registration, promotion, rollback and archiving: the gates are evaluated, the journal gets an entry, then MLflow."""
