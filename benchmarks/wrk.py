"""Moved to benchmarks.support.requests; the tests still import it from here."""

from benchmarks.support.requests import http_request as http_request
