"""What the status page says of a version is what alarms and `compare` say."""

from __future__ import annotations

from base64 import b64encode

import pytest
from playwright.sync_api import Page
from tests_support import ROOT

from registry.checks.scrape import parse
from registry.rules.counted import Counted
from registry.rules.figures import PREDICTION_ROUTES, figures

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser")]

TEXT = """\
# TYPE policy_requests_total counter
policy_requests_total{code="200",route="/predict",version="0.2.0"} 90
policy_requests_total{code="500",route="/v2/models/{name}/infer",version="0.2.0"} 10
policy_requests_total{code="503",route="/v2/health/ready",version="0.2.0"} 40
# TYPE policy_latency_seconds histogram
policy_latency_seconds_count{part="decode",version="0.2.0"} 90
# TYPE policy_actions_total counter
policy_actions_total{version="0.2.0"} 90
# TYPE policy_saturated_total counter
policy_saturated_total{dimension="steer",version="0.2.0"} 90
policy_saturated_total{dimension="throttle",version="0.2.0"} 45
"""


def test_the_status_page_counts_as_alarms_do(page: Page):
    module = b64encode((ROOT / "serve" / "web" / "pages" / "versions.js").read_bytes()).decode()
    page.evaluate("async module => { window.page = await import(`data:text/javascript;base64,${module}`) }", module)
    assert page.evaluate("page.PREDICTION_ROUTES") == list(PREDICTION_ROUTES)
    shown = page.evaluate("text => page.figures(text, '0.2.0')", TEXT)
    found = figures(Counted(parse(TEXT).samples, "0.2.0"))
    assert (shown["requests"], shown["errors"], found["error_rate"]) == (100, "10 (10.00 %)", 0.1)
    assert (shown["saturated"], found["saturation"]) == ("135 (75.00 %)", 0.75)
