"""Errors between this machine and the hub: which ones to try again, and messages for the rest.

No message holds a token or an address with a signature in it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import httpx2
import structlog
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from atp.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TRIES = 4
"""In a row, without progress between them."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds: each wait is twice the one before; the hub may ask for a longer one."""

TRANSIENT = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
TRANSIENT_CODES = {408, 425, 429, 500, 502, 503, 504}
UNAUTHORIZED, FORBIDDEN = 401, 403

HUB_ERRORS = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    KeyError,
    TypeError,
    ValueError,
)
"""All that a request may raise; the last three where another server answers in the hub's place."""

RESUME_HINT = "Run the same command again: it resumes."
TOKEN_WAYS = "HF_TOKEN, or a file that HF_TOKEN_PATH names"  # noqa: S105  (no token)

log = structlog.get_logger()


def with_retries(repository: str, revision: str, request: Callable[[], T]) -> T:
    """Return the answer to a request, which is repeated a few times after a transient error."""
    failed = 0
    while True:
        try:
            return request()
        except HUB_ERRORS as error:
            failed += 1
            if failed == TRIES or not is_transient(error):
                raise hub_error(repository, revision, error) from error
            wait(repository, failed, error)


def is_transient(error: Exception) -> bool:
    """Say whether the same request may succeed a moment later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TRANSIENT_CODES
    return isinstance(error, TRANSIENT)


def wait(what: str, failed: int, error: Exception) -> None:
    """Log the last of `failed` tries to get something, and wait for the next one."""
    seconds = FIRST_WAIT * 2 ** (failed - 1)
    if isinstance(error, HfHubHTTPError):
        retry_after = error.response.headers.get("Retry-After", "")
        seconds = max(seconds, float(retry_after) if retry_after.isdecimal() else 0.0)
    seconds = min(seconds, LONGEST_WAIT)
    log.warning("fetch.retry", what=what, failed=failed, error=reason(error), seconds=seconds)
    time.sleep(seconds)


def hub_error(repository: str, revision: str, error: Exception) -> UnavailableError:
    """Return the error that says why a repository cannot be read, and what may help."""
    page = f"https://huggingface.co/{repository}"
    code = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    has_token = get_token() is not None
    if isinstance(error, GatedRepoError) and not has_token:
        msg = f"{repository} is gated, and there is no token."
        hint = f"Accept its licence at {page}, and give a token of that account: {TOKEN_WAYS}."
    elif isinstance(error, GatedRepoError):
        msg = f"{repository} is gated, and the token does not open it."
        hint = f"Accept its licence at {page} with the token's account, wait where access is "
        hint += f"granted by hand, and let the token read gated repositories ({TOKEN_WAYS})."
    elif isinstance(error, RevisionNotFoundError):
        msg = f"{repository} has no revision {revision}."
        hint = f"See the branches, tags and commits at {page}."
    elif isinstance(error, RepositoryNotFoundError):
        way = "that the token may read" if has_token else "that may be read without a token"
        msg = f"the hub has no {repository} {way}."
        hint = f"Check the name; if it is private or gated, accept its licence at {page} and give "
        hint += f"a token: {TOKEN_WAYS}."
    elif isinstance(error, RemoteEntryNotFoundError):
        msg = f"{repository} does not have, at {revision}, a file that it lists."
        hint = "Run the same command again."
    elif isinstance(error, OfflineModeIsEnabled):
        msg = f"{repository} is not all in the hub cache, and HF_HUB_OFFLINE is set."
        hint = "Unset it for atp fetch."
    elif code in {UNAUTHORIZED, FORBIDDEN}:
        msg = f"{repository} cannot be read: the hub says {reason(error)} to "
        msg += "the token." if has_token else "a request without a token."
        hint = f"Give a valid token ({TOKEN_WAYS}) of an account that {page} is open to."
    elif isinstance(error, HFValidationError):
        msg = f"{repository} at {revision} cannot be the name of a repository and its revision."
        hint = "Write owner/name as on the hub's page."
    else:
        msg = f"{repository} cannot be had from {endpoint()}: {reason(error)}."
        hint = f"Check the network, proxies and HF_ENDPOINT. {RESUME_HINT}"
    return UnavailableError(msg, hint)


def reason(error: Exception) -> str:
    """Return an error of the network in words, without an address or a secret."""
    if isinstance(error, HfHubHTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer in time ({type(error).__name__})"
    text = f"no answer of a hub ({type(error).__name__})"
    if isinstance(error, TRANSIENT):
        text = str(error) or type(error).__name__
    token = get_token()
    return text.replace(token, "***") if token else text


def endpoint() -> str:
    """Return the hub's host, without a name or password that its address may hold."""
    return urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
