"""Decides which version of a policy drives: semantic versions, stages and moves over MLflow's Model Registry."""
