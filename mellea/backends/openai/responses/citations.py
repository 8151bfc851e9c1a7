"""Handles citations, and the files that the code interpreter made."""

from __future__ import annotations

import mimetypes
from urllib.parse import quote

from mellea.backends.http.fields import find_id, find_mapping, find_text
from mellea.backends.openai.responses.wire import JsonObject
from mellea.core.blocks import Source
from mellea.core.events import Event, FileEvent, SourceEvent

__all__ = ["Citations"]


class Citations:
    """Converts annotations to events; each file is reported once, however often it is cited.

    A file in a container is fetched from `containers/{id}/files/{id}/content` with the same key as the answer (OpenAI's
    API reference, "Retrieve container file content", as of 2026-10), for as long as the container lives.

    Args:
        base_url: the base of the service's paths.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._files: set[str] = set()

    def feed(self, annotation: JsonObject, events: list[Event]) -> None:
        """Take one annotation."""
        kind, title = annotation.get("type"), find_text(annotation, "filename")
        if kind == "url_citation":
            found = find_mapping(annotation, "url_citation") or annotation
            source = Source(find_text(found, "url") or None, find_text(found, "title") or None)
        elif kind == "container_file_citation":
            url = self._file(annotation, title, events)
            source = Source(url, title or find_id(annotation, "file_id") or None)
        elif kind in ("file_citation", "file_path"):
            source = Source(title=title or find_id(annotation, "file_id") or None)
        else:
            return
        if source != Source():
            events.append(SourceEvent(source))

    def _file(self, annotation: JsonObject, title: str, events: list[Event]) -> str | None:
        container, file_id = find_id(annotation, "container_id"), find_id(annotation, "file_id")
        if not container or not file_id:
            return None
        url = f"{self._base_url}/containers/{quote(container, safe='')}/files/{quote(file_id, safe='')}/content"
        if url not in self._files:
            self._files.add(url)
            media_type = mimetypes.guess_type(title)[0] or "application/octet-stream"
            events.append(FileEvent(media_type, url=url, filename=title or None))
        return url
