"""What stands in deploy/ and compose.yaml is valid, and says nothing that the server does not know."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests_support import ROOT, missing

from serve.flags import settings_from_environment
from serve.policy.slot import Slot
from serve.settings import PREFIX, Settings
from serve.web.app import create_app

KUBERNETES = "1.33"
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
UNIT = ROOT / "deploy" / "systemd" / "carla-policy.service"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def documents(kind: str | None = None) -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            if kind in (None, document["kind"]):
                yield document


def pod_specs() -> list[dict[str, Any]]:
    [deployment], [inference] = documents("Deployment"), documents("InferenceService")
    predictor = {key: value for key, value in inference["spec"]["predictor"].items() if key not in OF_KSERVE}
    return [deployment["spec"]["template"]["spec"], predictor]


OF_KSERVE = ("minReplicas", "maxReplicas", "timeout")
"""What a predictor of KServe's has besides the fields of a pod."""


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_is_valid_by_the_apis_schemas(path: Path):
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "InferenceService":  # not Kubernetes' own: its pod is
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod_specs()[1]}
            document = pod
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_misspelt_field_would_be_found():
    [deployment] = documents("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


@pytest.mark.parametrize("spec", pod_specs(), ids=["deployment", "kserve"])
def test_pods_are_restricted_and_limited(spec: dict[str, Any]):
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/cache", "/tmp"}


def test_the_grace_period_is_long_enough_for_the_drain():
    [deployment], [config] = documents("Deployment"), documents("ConfigMap")
    spec = deployment["spec"]["template"]["spec"]
    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    settings = Settings(drain_s=float(config["data"]["POLICY_DRAIN_S"]))
    assert spec["terminationGracePeriodSeconds"] >= before + settings.drain_s + settings.grace_s + 1
    drain, stop = (COMPOSE["services"]["policy"][key] for key in ("environment", "stop_grace_period"))
    settings = Settings(drain_s=float(drain["POLICY_DRAIN_S"]))
    assert float(stop.removesuffix("s")) >= settings.drain_s + settings.grace_s + 1


def test_probes_ask_routes_that_there_are(tmp_path: Path):
    routes = {str(rule) for rule in create_app(Settings(), Slot(tmp_path)).url_map.iter_rules()}
    for spec in pod_specs():
        probes = [value for key, value in spec["containers"][0].items() if key.endswith("Probe")]
        assert len(probes) >= 2
        assert {probe["httpGet"]["path"] for probe in probes} <= routes


@pytest.mark.parametrize(
    "path", [*MANIFESTS, ROOT / "compose.yaml", ROOT / "Dockerfile", UNIT], ids=lambda path: path.name
)
def test_every_policy_variable_is_a_setting(path: Path):
    known = {PREFIX + field.name.upper() for field in fields(Settings)} | {"POLICY_BAKED"}
    known |= {f"{PREFIX}{field.name.upper()}_FILE" for field in fields(Settings) if "secret" in field.metadata}
    assert set(re.findall(r"POLICY_[A-Z_]+(?=[=:\s\"',)}]|$)", path.read_text())) <= known


def test_every_service_of_compose_has_limits_a_health_check_and_its_secrets_from_files():
    for name, service in COMPOSE["services"].items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert "healthcheck" in service or name == "policy"  # the image's own
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        for value in service.get("environment", {}).values():
            assert "password" not in value or value.startswith("/run/secrets/")


def test_compose_is_valid_by_its_schema(tmp_path: Path):
    if shutil.which("docker-compose") is None:
        missing("docker-compose", "docker-compose")
    command = ["docker-compose", "-f", str(ROOT / "compose.yaml"), "config", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    broken = tmp_path / "compose.yaml"
    broken.write_text((ROOT / "compose.yaml").read_text().replace("healthcheck:", "healthchek:", 1))
    assert subprocess.run([*command[:2], str(broken), "config", "-q"], capture_output=True).returncode == 1


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "systemd")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/carla-mlflow/bin/carla-serve", "/bin/true")  # it has to be there
    for written, is_right in ((text, True), (text.replace("KillMode=mixed", "KilMode=mixed"), False)):
        unit.write_text(written)
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
        assert (unit.name not in done.stderr) == is_right, done.stderr


def test_the_guides_addition_to_the_unit_is_one_that_systemd_understands(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "systemd")
    page = (ROOT / "docs" / "how-to" / "systemd.md").read_text()
    [added] = re.findall(r"^```ini\n\[Service\]\n(.*?)^```$", page, re.M | re.S)
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/carla-mlflow/bin/carla-serve", "/bin/true")  # it has to be there
    unit.write_text(text.replace("[Install]", f"[Service]\n{added}\n[Install]"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert unit.name not in done.stderr, done.stderr
    variables = dict(re.findall(r"^Environment=POLICY_(\w+)=(.*)$", added, re.M))
    variables.pop("API_KEY_FILE")  # systemd fills in where it lies
    settings = settings_from_environment({f"POLICY_{name}": value for name, value in variables.items()})
    assert settings.problems() == []


def test_the_unit_serves_on_a_socket_in_a_folder_that_systemd_makes_and_stops_late_enough():
    variables = dict(re.findall(r"^Environment=POLICY_(\w+)=(.*)$", UNIT.read_text(), re.M))
    settings = settings_from_environment({f"POLICY_{name}": value for name, value in variables.items()})
    assert settings.problems() == []
    assert settings.follows_folder
    assert settings.address == "unix:/run/carla-policy/policy.sock"
    folders = dict(re.findall(r"^(RuntimeDirectory|CacheDirectory|TimeoutStopSec)=(.*)$", UNIT.read_text(), re.M))
    assert (folders["RuntimeDirectory"], folders["CacheDirectory"]) == ("carla-policy", "carla-policy")
    assert float(folders["TimeoutStopSec"]) >= settings.drain_s + settings.grace_s + 1


def test_prometheus_scrapes_in_compose_what_it_scrapes_by_hand():
    folder = ROOT / "deploy" / "prometheus"
    by_hand, composed = (yaml.safe_load((folder / name).read_text()) for name in ("prometheus.yml", "compose.yml"))
    composed["scrape_configs"][0]["static_configs"][0]["targets"] = ["localhost:8080"]
    assert composed == by_hand
