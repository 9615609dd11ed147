"""Holds the answers of a server against its own OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator


class Documented:
    """Asks a server; an answer that its document does not know is an error of the test."""

    def __init__(self, client: httpx.Client, document: dict[str, Any]) -> None:
        self.client, self.document = client, document

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._checked("get", path, options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self._checked("post", path, options)

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """Return what the document says of an address: the template with most fixed signs wins."""
        found = [
            template
            for template, item in self.document["paths"].items()
            if method in item and _pattern(template).fullmatch(path)
        ]
        assert found, f"{method} {path} is not documented"
        best = max(found, key=lambda template: len(re.sub(r"\{[^}]*\}", "", template)))
        return self.document["paths"][best][method]

    def _checked(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        response = self.client.request(method, path, **options)
        responses = self.operation(method, path.partition("?")[0])["responses"]
        known = responses.get(str(response.status_code))
        assert known, f"{response.status_code} is not documented: {response.text[:300]}"
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in known["content"], f"{kind} is not documented"
        if kind == "application/json":
            self.validate(response.json(), known["content"][kind]["schema"])
        return response

    def validate(self, value: Any, schema: dict[str, Any]) -> None:
        whole = {**schema, "components": self.document.get("components", {})}
        error = next(Draft202012Validator(whole).iter_errors(value), None)
        assert error is None, f"{error.json_path}: {error.message[:300]}"


def _pattern(template: str) -> re.Pattern[str]:
    """Return what an address of a template looks like; an id may have a slash."""
    parts = re.split(r"\{[^}]*\}", template)
    return re.compile(".+".join(re.escape(part) for part in parts))
