"""What is published and what it is installed with: one version, one lock, and containers for this machine alone."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import cerebro_nb

ROOT = Path(__file__).parent.parent
SETTINGS = ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
META = SETTINGS["DEFAULT"]
LOCK = (ROOT / "lock.txt").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSED = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
STAGES = {
    name: body for body, name in re.findall(r"^(FROM \S+ AS (\w+)\n(?:(?!FROM ).*\n)*)", DOCKERFILE, re.MULTILINE)
}


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


# --- one version


def test_the_version_stands_in_the_settings_and_the_others_follow():
    version = META["version"]
    assert cerebro_nb.__version__ == version
    noted = re.findall(
        r"^## \[(\d[^\]]*)\] - \d{4}-\d{2}-\d{2}$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert noted[0] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    shown = (ROOT / "nbs" / "tutorials" / "6_a_reproducible_run.ipynb").read_text("utf-8")
    assert set(re.findall(r"'cerebro_version': '([^']+)'", shown)) == {version}
    assert set(re.findall(r"cerebro-ray:(\S+)", (ROOT / "docs" / "deploy" / "rayjob.yaml").read_text("utf-8"))) == {
        version
    }


# --- what is wanted, and what is locked


def wanted(*extras):
    words = [sys.executable, ROOT / "scripts" / "requirements.py", *extras]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    return [Requirement(line) for line in said.splitlines()]


def names(*extras):
    return {normalized(requirement.name) for requirement in wanted(*extras)}


def test_an_extra_is_what_its_use_wants():
    assert names("train") == names("datasets") | names("hub")
    uses = "embedded panel documents vectors multilingual train sheets postgres ray otel".split()
    assert names("all") == set().union(*map(names, uses))
    assert {"jupyterlab", "voila"} <= names("panel")
    assert names("all", "docs", "dev") == names()


def test_the_lock_has_a_version_that_fits_and_hashes_for_all_that_is_wanted():
    entries = re.findall(
        r"^([\w.-]+)==(\S+)((?: ;.*?)?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", LOCK, re.MULTILINE
    )
    assert len(entries) == len(re.findall("==", re.sub(r" ;.*", "", LOCK))) > 200
    versions = {normalized(name): version for name, version, _, _ in entries}
    for requirement in wanted():
        assert requirement.specifier.contains(versions[normalized(requirement.name)]), requirement


def test_the_constraints_are_the_versions_of_the_lock():
    locked = [line.removesuffix(" \\") for line in LOCK.splitlines() if "==" in line]
    given = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert given[0].startswith("#") and given[1:] == locked


# --- the containers


def test_what_the_container_is_built_from_is_there_and_nothing_else_is_given_to_it():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {word for line in copied for word in line.split()}
    assert sources == allowed and all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("stage", ["lab", "ollama"])
def test_what_runs_in_a_container_is_not_root_and_tells_its_health(stage):
    users = re.findall(r"^USER (\S+)$", STAGES[stage], re.MULTILINE)
    assert users[-1].split(":")[0] == "1000" and "HEALTHCHECK" in STAGES[stage]


def test_the_services_are_for_this_machine_alone():
    services = COMPOSED["services"]
    assert set(services) == {"lab", "ollama", "ledger"}
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"lab": ["127.0.0.1:8888:8888"]}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        if "build" in service:
            assert service["build"]["target"] == name and name in STAGES
        else:
            assert service["user"] != "root" and service["healthcheck"] and not service["image"].endswith(":latest")
    volumes = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert volumes == set(COMPOSED["volumes"])


def test_no_secret_stands_in_a_file_and_none_is_missing_in_silence():
    environment = {
        key: value for service in COMPOSED["services"].values() for key, value in service.get("environment", {}).items()
    }
    for name in ("JUPYTER_TOKEN", "POSTGRES_PASSWORD"):
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", environment[name]), name
    assert re.fullmatch(r"postgresql://cerebro:\$\{\w+:\?[^}]+\}@ledger/cerebro", environment["CEREBRO_DATABASE_URL"])
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert ".env" in ignored
