"""The pages and their files over HTTP: types, caching, the policy, and nothing of other hosts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from openkeypoints.server.config import RESERVED_SEGMENTS, ServerConfig
from openkeypoints.server.surfaces import pages
from tests.live_server import live_server
from tests.unit.engine.stubs import Shop

FILES = [path for path in sorted(pages.FOLDER.iterdir()) if path.is_file()]
ADDRESSES = re.compile(r"https?://[^\s\"'`)]+")
IMPORTS = re.compile(r'^import .* from "([^"]+)";$', re.MULTILINE)
NAMESPACE = "http://www.w3.org/2000/svg"


class Links(HTMLParser):
    """What a page refers to, and what a strict policy would refuse in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.refused: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value)
            if name == "style" or name.startswith("on"):
                self.refused.append(f"{tag} {name}")
        if tag == "style" or (tag == "script" and "src" not in dict(attrs)):
            self.refused.append(tag)


@pytest.fixture(scope="module")
def client(settings):
    with live_server(ServerConfig(port=0), open_model=Shop().open, settings=settings) as server:
        yield server.client


@pytest.mark.parametrize(("path", "title"), [("/", "playground"), ("/docs", "API")])
def test_a_page_is_html_that_is_asked_for_anew(client, path, title):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert title in answer.text


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("people.jpg", "image/jpeg"),
    ],
)
def test_an_asset_has_the_type_of_its_ending(client, name, media_type):
    answer = client.get(f"/docs/assets/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_the_browser_has_is_not_sent_again(client):
    etag = client.get("/docs/assets/app.js").headers["etag"]
    answer = client.get("/docs/assets/app.js", headers={"if-none-match": f'"old", W/{etag}'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag


def test_what_the_browser_has_of_another_version_is_sent_anew(client):
    answer = client.get("/docs/assets/app.js", headers={"if-none-match": '"old"'})
    assert answer.status_code == 200


def test_head_answers_like_get_without_a_body(client):
    answer = client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/assets/app.js"])
def test_the_policy_allows_files_of_this_server_alone(client, path):
    policy = dict(
        part.split(" ", 1)
        for part in client.get(path).headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not any("unsafe" in value or "*" in value for value in policy.values())


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_has_nothing_that_the_policy_refuses(client, path):
    page = Links(client.get(path).text)
    assert not page.refused


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_every_link_of_a_page_leads_somewhere_on_this_server(client, path):
    links = [link for link in Links(client.get(path).text).links if not link.startswith("#")]
    assert links
    assert {client.get(f"/{link}").status_code for link in links} == {200}


@pytest.mark.parametrize("file", [f for f in FILES if f.suffix == ".js"], ids=lambda f: f.name)
def test_every_module_imports_modules_that_are_served(client, file):
    for name in IMPORTS.findall(file.read_text(encoding="utf-8")):
        assert client.get(f"/docs/assets/{name.removeprefix('./')}").status_code == 200


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_no_file_names_another_host(file):
    assert set(ADDRESSES.findall(file.read_text(encoding="utf-8"))) <= {NAMESPACE}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_no_file_is_longer_than_its_limit(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


def test_a_file_that_is_not_there_is_not_found(client):
    assert client.get("/docs/assets/none.js").status_code == 404


def test_the_assets_lie_where_no_model_can_be():
    assert pages.ASSETS.split("/")[1] in RESERVED_SEGMENTS


def test_whoever_has_no_key_sees_the_pages_and_no_models(settings):
    config = ServerConfig(port=0, api_key="okp_pages_0123456789abcdef")
    with live_server(config, open_model=Shop().open, settings=settings) as server:
        assert server.client.get("/").status_code == 200
        assert server.client.get("/v1/models").status_code == 401
