"""What the pages of docs/reference show of the code itself: commands, settings, routes, errors, metrics and card."""

from __future__ import annotations

from collections.abc import Callable

from reference_pages import card, commands, errors, exit_codes, metrics, python, routes, settings

PARTS: dict[str, Callable[[], str]] = {
    **commands.PARTS,
    "exit-codes": exit_codes.exit_codes,
    "settings": settings.flags,
    "secrets": settings.secrets,
    "ray-arguments": settings.of_ray,
    "routes": routes.routes,
    "error-codes": errors.codes,
    "metrics": metrics.every_metric,
    "card-draft": card.draft,
    "card": card.finished,
    "python-core": python.core,
    "python-car": python.car,
    "exception-tree": python.exception_tree,
    "exceptions": python.exceptions,
}
"""Name of a part → makes its Markdown; a page has it where the line `<!-- generated: NAME -->` stands."""

FILES: dict[str, Callable[[], str]] = {
    "reference/card.schema.json": card.draft_file,
    "reference/model_card.schema.json": card.finished_file,
    "reference/openapi.json": routes.openapi_file,
}
"""Path below docs/ → makes the whole file."""
