"""Moved to benchmarks.support.mlflow_server; the tests still import it from here."""

from benchmarks.support.mlflow_server import MlflowServer as MlflowServer
