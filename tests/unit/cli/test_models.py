"""``okp models``: the catalogue, and what is known about one model."""

from __future__ import annotations

import hashlib
import json

import pytest

from openkeypoints import list_models, sample
from openkeypoints.weights.okp import sha256_of
from tests.servers import FileServer, serving


def test_the_list_has_every_model_of_the_catalogue(okp):
    ids = [row["id"] for row in json.loads(okp("models", "--json").stdout)]
    assert ids == [variant.id for variant in list_models()]


def test_the_list_is_the_same_with_its_name(okp):
    assert okp("models", "list").stdout == okp("models").stdout


def test_the_table_has_a_line_per_model_with_its_licence(okp):
    lines = okp("models").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [variant.id for variant in list_models()]
    licences = [variant.licence for variant in list_models()]
    assert all(name in line for name, line in zip(licences, lines, strict=True))


def test_the_facts_of_a_model_are_complete(okp):
    facts = json.loads(okp("models", "info", "person-19", "--json").stdout)
    assert {"licence", "source", "size_bytes", "sha256", "claims", "card"} <= set(facts)
    assert facts["skeletons"] == {"person": "person19"}


def test_the_facts_of_a_file_are_those_it_states(okp, tiny_okp):
    facts = json.loads(okp("models", "info", tiny_okp, "--json").stdout)
    assert facts["sha256"] == sha256_of(tiny_okp)
    assert facts["card"] == {"note": "random weights"}
    assert facts["views"] == ["person", "person-19"]


def test_the_facts_read_as_lines(okp, tiny_okp):
    assert "\nlicence " in okp("models", "info", tiny_okp).stdout


def test_a_file_of_another_kind_has_its_size_and_hash(okp, tmp_path):
    path = tmp_path / "n.pt"
    path.write_bytes(b"weights")
    facts = json.loads(okp("models", "info", path, "--json").stdout)
    assert (facts["size_bytes"], facts["sha256"]) == (7, sha256_of(path))
    assert "n.pt" in facts["problem"]


# ---------------------------------------------------------------- what is here, and getting it

GRAPH = b"graph" * 1000


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Return a server that has a model of Roboflow's, and make it the one that is asked."""
    monkeypatch.setenv("OKP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MODEL_CACHE_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("ROBOFLOW_API_KEY", "canary")
    with serving(FileServer()) as running:
        monkeypatch.setenv("OKP_ROBOFLOW_URL", running.url)
        package = {
            "trustedSource": True,
            "packageManifest": {"type": "onnx-model-package-v1"},
            "packageFiles": [
                {"fileHandle": "weights.onnx", "downloadUrl": f"{running.url}/graph"},
            ],
        }
        answer = {"modelMetadata": {"modelPackages": [package]}}
        running.files["/models/v1/external/weights"] = json.dumps(answer).encode()
        running.files["/graph"] = GRAPH
        yield running


@pytest.fixture
def here(okp, server):
    # After `okp`, whose cache all tests share: these have one of their own.
    def run(*arguments):
        return okp("models", *arguments)

    return run


def row(here, name):
    return next((r for r in json.loads(here("list", "--json").stdout) if r["id"] == name), None)


def test_pulling_says_the_licence_and_gives_the_path(here, cache_folder):
    done = here("pull", "my-pose/3")
    assert done.exit_code == 0
    assert done.stdout == f"{cache_folder / 'weights' / 'my-pose@3'}\n"
    assert "Fetching the weights of my-pose/3; their licence: the owner's." in done.stderr
    assert "canary" not in done.output


@pytest.fixture
def cache_folder(tmp_path):
    return tmp_path / "cache"


def test_pulling_twice_fetches_once(here, server):
    here("pull", "my-pose/3")
    server.asked.clear()
    assert json.loads(here("pull", "my-pose/3", "--json").stdout)["licence"] == "the owner's"
    assert server.asked == []


def test_pulling_a_model_in_the_package_needs_nothing(here, server):
    assert here("pull", "person").stdout.endswith("person.okp\n")
    assert server.asked == []


def test_pulling_offline_says_what_is_missing(here, monkeypatch):
    monkeypatch.setenv("OKP_OFFLINE", "1")
    done = here("pull", "my-pose/3")
    assert done.exit_code == 3
    assert "okp: The weights of 'my-pose/3' are not here, and OKP_OFFLINE is set" in done.stderr


def test_pulling_what_is_not_allowed_is_refused(here, server, monkeypatch):
    monkeypatch.setenv("OKP_ALLOWED_LICENCES", "MIT")
    done = here("pull", "my-pose/3")
    assert done.exit_code == 1
    assert "OKP_ALLOWED_LICENCES allows MIT" in done.stderr
    assert server.asked == []


def test_pulling_an_unknown_name_lists_the_closest(here):
    done = here("pull", "persom")
    assert done.exit_code == 3
    assert "person" in done.stderr


def test_the_facts_say_where_a_model_would_lie_and_come_from(here, server, cache_folder):
    facts = json.loads(here("info", "my-pose/3", "--json").stdout)
    assert facts["urls"] == [f"{server.url}/models/v1/external/weights?modelId=my-pose/3"]
    assert facts["path"] == str(cache_folder / "weights" / "my-pose@3")
    assert (facts["here"], facts["sha256"], facts["licence"]) == (False, None, "the owner's")
    assert server.asked == []


def test_the_facts_have_the_hash_that_was_recorded(here):
    here("pull", "my-pose/3")
    facts = json.loads(here("info", "my-pose/3", "--json").stdout)
    assert (facts["here"], facts["size_bytes"]) == (True, len(GRAPH))
    assert facts["sha256"] == hashlib.sha256(GRAPH).hexdigest()
    assert facts["since"]


def test_the_list_says_what_is_here(here):
    assert row(here, "person")["here"]
    assert row(here, "my-pose/3") is None
    here("pull", "my-pose/3")
    assert row(here, "my-pose/3")["here"]
    (line,) = [line for line in here("list").stdout.splitlines() if line.startswith("my-pose/3")]
    assert line.split() == ["my-pose/3", "-", "-", "-", "the", "owner's", "yes"]


def test_a_file_of_ones_own_can_be_added_and_removed(here, tmp_path):
    own = tmp_path / "best.onnx"
    own.write_bytes(GRAPH)
    added = json.loads(here("add", "mine", own, "--json").stdout)
    assert added == {"id": "mine", "path": str(own), "sha256": sha256_of(own)}
    assert row(here, "mine")["here"]
    assert json.loads(here("info", "mine", "--json").stdout)["path"] == str(own)
    assert here("pull", "mine").stdout == f"{own}\n"
    assert here("remove", "mine").exit_code == 0
    assert row(here, "mine") is None
    assert own.exists()


def test_a_file_that_changed_can_be_added_again(here, tmp_path):
    own = tmp_path / "best.onnx"
    own.write_bytes(GRAPH)
    here("add", "mine", own)
    own.write_bytes(b"new")
    assert here("info", "mine").exit_code == 1
    assert here("add", "mine", own).exit_code == 0
    assert here("info", "mine").exit_code == 0


def test_nothing_can_be_added_over_a_model_in_the_package(here, tmp_path):
    done = here("add", "person", tmp_path)
    assert done.exit_code == 4
    assert "choose another id" in done.stderr


def test_nothing_can_be_added_over_a_download(here, tmp_path):
    own = tmp_path / "best.onnx"
    own.write_bytes(GRAPH)
    here("pull", "my-pose/3")
    done = here("add", "my-pose/3", own)
    assert done.exit_code == 4
    assert "okp models remove my-pose/3" in done.stderr


def test_removing_a_download_deletes_it(here, cache_folder):
    here("pull", "my-pose/3")
    assert json.loads(here("remove", "my-pose/3", "--json").stdout)["removed"]
    assert not (cache_folder / "weights" / "my-pose@3").exists()


def test_removing_what_is_not_here_is_not_found(here):
    assert here("remove", "my-pose/3").exit_code == 3


def test_the_card_that_was_derived_from_a_file_is_shown_and_can_be_given_back(
    okp, tiny_pt, tmp_path
):
    shown = okp("models", "info", tiny_pt).stdout
    _, _, card = shown.partition("derived card\n\n")
    assert card.startswith("family: yolo\n")
    file = tmp_path / "card.yaml"
    file.write_text(card, encoding="utf-8")
    done = okp("predict", sample("people"), "--model", tiny_pt, "--card", file, "--json")
    assert done.exit_code == 0
    told = json.loads(okp("models", "info", tiny_pt, "--json").stdout)
    assert told["derived_card"]["class_names"] == ["thing0"]


def test_a_folder_that_we_exported_is_described_too(okp, tiny_pt, tmp_path):
    assert okp("export", tiny_pt, "--format", "openvino", "--out", tmp_path / "own").exit_code == 0
    told = json.loads(okp("models", "info", tmp_path / "own", "--json").stdout)
    assert told["derived_card"]["class_names"] == ["thing0"]
