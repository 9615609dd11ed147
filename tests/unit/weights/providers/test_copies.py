"""What other software has fetched is found where it lies."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from openkeypoints.settings import Settings
from openkeypoints.weights import WeightRef, fetch, recorded
from openkeypoints.weights.providers import copies

ROBOFLOW = WeightRef("roboflow", "my-pose/3")
HUB = WeightRef("hub", "owner/model", "n.safetensors")
COMMIT = "0123abcd"


def package(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.onnx").write_bytes(b"graph")
    (folder / "class_names.txt").write_text("person\n")
    return folder


def older(cache: Path) -> Path:
    return package(cache / "my-pose" / "3")


def newer(cache: Path) -> Path:
    digest = hashlib.blake2s(b"my-pose/3", digest_size=16).hexdigest()
    return package(cache / "models-cache" / f"v2-my-pose-3-{digest}" / "pkg1")


@pytest.mark.parametrize("layout", [older, newer])
def test_a_package_of_roboflows_software_is_read_where_it_lies(settings, server, layout):
    folder = layout(settings.roboflow_caches[0])
    offline = replace(settings, offline=True)
    assert fetch("my-pose/3", (ROBOFLOW,), offline, licence="the owner's") == folder
    assert recorded("my-pose/3", (ROBOFLOW,), settings).size_bytes == len(b"graph")
    assert server.asked == []


def test_the_package_of_another_id_is_none(settings):
    newer(settings.roboflow_caches[0])
    older(settings.roboflow_caches[0])
    assert copies.find_copy(WeightRef("roboflow", "my-pose/4"), settings) is None


def test_a_package_without_its_cards_is_none(settings):
    (older(settings.roboflow_caches[0]) / "class_names.txt").unlink()
    assert copies.find_copy(ROBOFLOW, settings) is None


def test_without_a_setting_the_temporary_folder_is_looked_at(settings, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))
    bare = replace(settings, roboflow_caches=())
    assert copies.find_copy(ROBOFLOW, bare) is None
    folder = older(tmp_path / "tmp" / "cache")
    assert copies.find_copy(ROBOFLOW, bare) == folder


def test_a_temporary_folder_that_another_user_made_is_not_trusted(settings, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    older(tmp_path / "cache")
    try:
        os.chown(tmp_path / "cache", 12345, -1)
    except PermissionError:  # not root: then we are the other user
        monkeypatch.setattr("os.getuid", lambda: 12345)
    assert copies.find_copy(ROBOFLOW, replace(settings, roboflow_caches=())) is None


@pytest.fixture
def snapshot(settings: Settings) -> Path:
    folder = settings.hub_cache / "models--owner--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    file = folder / "snapshots" / COMMIT / "n.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return file


@pytest.mark.parametrize("location", ["owner/model", f"owner/model@{COMMIT}"])
def test_a_file_in_the_hubs_cache_is_read_where_it_lies(settings, snapshot, location):
    assert copies.find_copy(replace(HUB, location=location), settings) == snapshot


def test_another_revision_or_file_is_none(settings, snapshot):
    assert copies.find_copy(replace(HUB, location="owner/model@v2"), settings) is None
    assert copies.find_copy(replace(HUB, file="x"), settings) is None


def test_a_copy_with_a_wrong_hash_is_none(settings, snapshot):
    right = hashlib.sha256(b"weights").hexdigest()
    assert copies.find_copy(replace(HUB, sha256=right), settings) == snapshot
    assert copies.find_copy(replace(HUB, sha256="0" * 64), settings) is None


def test_a_plain_folder_is_a_hub_folder_too(tmp_path):
    (tmp_path / "n.safetensors").touch()
    assert copies.hub_file(tmp_path, "n.safetensors") == tmp_path / "n.safetensors"
    assert copies.hub_file(tmp_path, "other") is None
