"""Fetches pictures at addresses that came in with requests, as far as the operator lets it."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from openkeypoints.errors import (
    DownloadError,
    ForbiddenAddressError,
    ImageTooLargeError,
    NotFoundError,
)
from openkeypoints.server.config import ServerConfig
from openkeypoints.settings import Settings
from openkeypoints.urls import Guard, fetch

# One text for each outcome, whatever lies behind it: an answer tells nothing of the network here.
REFUSED = (
    "This picture URL is not fetched: the server fetches no address unless it was started with "
    "--allow-urls or --allow-url-host; send the picture itself."
)
FAILED = "The picture URL did not deliver a picture; check the address, or send the picture itself."
TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


class PictureFetcher:
    """Fetches within the limits of the server.

    Args:
        config: whether, and from which hosts.
        settings: offline mode.
    """

    def __init__(self, config: ServerConfig, settings: Settings) -> None:
        self._allowed = config.allow_urls or bool(config.allow_url_hosts)
        self._guard = Guard.others(config.allow_url_hosts, only=not config.allow_urls)
        self._settings = replace(
            settings, timeout_s=TIMEOUT_S, max_download_bytes=config.limits.picture_bytes
        )
        self._pool = ThreadPoolExecutor(config.limits.fetches, thread_name_prefix="okp-fetch")

    async def fetch(self, url: str) -> bytes:
        """Return the bytes at an address.

        Raises:
            ForbiddenAddressError: the operator does not let it be fetched, or it did not deliver.
            ImageTooLargeError: it has more bytes than a picture may have.
        """
        if not self._allowed:
            raise ForbiddenAddressError(REFUSED)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._fetch, url)

    def close(self) -> None:
        """End the threads; what is being fetched is waited for by nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, url: str) -> bytes:
        try:
            return fetch(url, guard=self._guard, settings=self._settings)
        except ForbiddenAddressError:
            raise ForbiddenAddressError(REFUSED) from None
        except ImageTooLargeError:
            limit = self._settings.max_download_bytes
            raise ImageTooLargeError(
                f"The picture at the URL has more than {limit} bytes; make it smaller."
            ) from None
        except (DownloadError, NotFoundError) as error:
            _log.info("A picture was not fetched: %s", type(error).__name__)
            raise ForbiddenAddressError(FAILED) from None
