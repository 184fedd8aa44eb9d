"""The files under deploy/ for Prometheus and Grafana."""

import re
from typing import Any

import pytest
import yaml

from app.settings import ROOT
from tests.documents.dashboard import GRAFANA, PANELS
from tests.documents.document import anchors
from tests.testkit.prometheus import DEPLOYED, promtool
from workflows import QUEUES

RULES: list[dict[str, Any]] = [
    rule
    for path in (DEPLOYED / "rules").glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
CASES: list[dict[str, Any]] = [
    case
    for path in (DEPLOYED / "tests").glob("*.yml")
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test["alert_rule_test"]
]


def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "config", DEPLOYED / "prometheus.yml")
    promtool("check", "rules", *(DEPLOYED / "rules").glob("*.yml"))
    promtool("test", "rules", *(DEPLOYED / "tests").glob("*.yml"))


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_is_seen_to_fire_and_not_to_and_says_what_to_do(rule: dict[str, Any]) -> None:
    fired = {bool(case.get("exp_alerts")) for case in CASES if case["alertname"] == rule["alert"]}

    assert fired == {True, False}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    document, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert document == "docs/how-to/runbook.md"
    assert anchor in anchors(ROOT / document)


def test_every_panel_explains_itself_and_asks_the_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    known = {source["uid"] for source in provisioned["datasources"]}
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {asked["datasource"]["uid"] for asked in (panel, *panel["targets"])} == known


def test_every_service_is_scraped_and_missed() -> None:
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    names = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"]}
    missed = next(rule["expr"] for rule in RULES if rule["alert"] == "ServiceAbsent")

    assert set(names) == {"web", *QUEUES, "flower", "rabbitmq"}
    assert {names[queue]["port"] for queue in QUEUES} == {9100}
    assert all(found["names"] == [job] for job, found in names.items())
    assert set(re.findall(r'job="(\w+)"', missed)) == {"web", *QUEUES}
