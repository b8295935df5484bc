import pytest

from emollm.errors import BadArgumentError
from emollm.serve.settings import load_settings


def test_settings_come_from_a_file_options_and_changes(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("port: 9000\nmax_requests: 10\nlimits:\n  media_parts: 3\nengine:\n  max_num_seqs: 4\n")
    settings = load_settings(
        file, {"port": 9001}, ["limits.media_parts=5", "engine.dtype=bfloat16", "max_requests=20"]
    )
    assert (settings.port, settings.max_requests, settings.limits.media_parts) == (9001, 20, 5)
    assert settings.engine == {"max_num_seqs": 4, "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("content", "changes", "said"),
    [
        ("ports: 1", [], "'ports'"),
        ("port: high", [], "'port'"),
        ("engine: {trust_remote_code: true}", [], "trust_remote_code is set by the server itself"),
        ("- 1", [], "holds no settings"),
        ("a: [", [], "not valid YAML"),
        ("", ["port"], "not of the form key=value"),
        ("port: 1", ["port.low=1"], "no key of the settings"),
    ],
)
def test_wrong_settings_are_named(tmp_path, content, changes, said):
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(BadArgumentError, match=said):
        load_settings(file, {}, changes)
