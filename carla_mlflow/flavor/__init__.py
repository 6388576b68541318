"""A policy as an MLflow model: logged, loaded, downloaded."""
