"""Every exception the library raises on purpose.

OpenKeypointsError
    InputError                  400 / 4   a value in a call is wrong
        ImageDecodeError        400 / 4   bytes that are no readable picture
        ImageTooLargeError      413 / 4   more pixels or bytes than allowed
        PayloadTooLargeError    413 / 4   a request has more bytes or parts than allowed
        FormatError             422 / 4   foreign JSON or annotations do not fit
        OutputExistsError       409 / 4   writing would replace a file of somebody else
    NotFoundError               404 / 3   a file or address does not exist
        UnknownModelError       404 / 3   no model of that name; the closest ones are listed
        UnknownSkeletonError    404 / 3   no skeleton of that name
        OfflineError            404 / 3   a file has to be fetched, and nothing may be
    WeightsError                502 / 1   a model file cannot be used
        HashMismatchError       502 / 1   a model file is not the one that it should be
        LicenceError            403 / 1   the licence of a model is not among the allowed ones
        UnsafeCheckpointError   403 / 1   a checkpoint asks for more than its reader lets it do
        CheckpointKeyError      502 / 1   the tensors of a checkpoint are not its network's
    MissingExtraError           501 / 2   an optional part is missing; the message has the command
    RuntimeUnavailableError     503 / 1   runtime, device or precision not present here
    InferenceError              500 / 1   a model broke down on a picture, or while it was loaded
    OverloadedError             503 / 1   no room or no time for a call now; later there may be
    DownloadError               502 / 1   an address did not deliver
        RefusedError            502 / 1   a source of weights says no to the key that it was given
        ForbiddenAddressError   400 / 4   not to be reached on behalf of other people
    UnauthorizedError           401 / 1   a request carries no key, or none that is known
    PermissionDeniedError       403 / 1   a caller may not do this
    RateLimitError              429 / 1   a key asks more often than it may

The two numbers are the HTTP status and the exit code of the command line.
"""

from __future__ import annotations

from typing import ClassVar, Literal

ImageFault = Literal[
    "empty_file", "unreadable", "truncated", "unsupported_pixels", "unsupported_format"
]

OverloadReason = Literal["queue", "inflight", "memory", "loading", "deadline", "draining", "stuck"]


class OpenKeypointsError(Exception):
    """Root of the tree: catch it to catch everything that the library raises on purpose."""

    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class InputError(OpenKeypointsError):
    """A value in a call is wrong; the message says which, what is allowed and what to do."""

    http_status = 400
    exit_code = 4


class ImageDecodeError(InputError):
    """Bytes that are no readable picture.

    Attributes:
        code: one of ``empty_file``, ``unreadable``, ``truncated``, ``unsupported_pixels``,
            ``unsupported_format``.
    """

    def __init__(self, message: str, code: ImageFault) -> None:
        super().__init__(message)
        self.code: ImageFault = code


class ImageTooLargeError(InputError):
    """A picture has more pixels or bytes than the settings allow."""

    http_status = 413


class PayloadTooLargeError(InputError):
    """A request has more bytes, parts or headers than the server takes."""

    http_status = 413


class FormatError(InputError):
    """Foreign JSON or an annotation file does not fit what its format says."""

    http_status = 422


class OutputExistsError(InputError):
    """Writing would replace a file that another run, or a person, made."""

    http_status = 409


class NotFoundError(OpenKeypointsError):
    """A file, folder or address does not exist."""

    http_status = 404
    exit_code = 3


class UnknownModelError(NotFoundError):
    """No model has this name; the message lists the closest ones."""


class UnknownSkeletonError(NotFoundError):
    """No skeleton has this name; the message lists the closest ones."""


class OfflineError(NotFoundError):
    """A file has to be fetched and ``OKP_OFFLINE`` forbids it; the message says where to put it."""


class WeightsError(OpenKeypointsError):
    """A model file cannot be used: damaged, of an unknown kind, or not what its name says."""

    http_status = 502


class HashMismatchError(WeightsError):
    """The content of a model file is not what its publisher, or its first download, had."""


class LicenceError(WeightsError):
    """The licence of a model is not one of those that ``OKP_ALLOWED_LICENCES`` names."""

    http_status = 403


class UnsafeCheckpointError(WeightsError):
    """A pickled checkpoint asks for what no checkpoint needs; nothing of it was executed."""

    http_status = 403


class CheckpointKeyError(WeightsError):
    """The tensors of a checkpoint are not those of its network; the message lists them."""


class MissingExtraError(OpenKeypointsError):
    """An optional part is not installed.

    Args:
        what: the thing that was asked for, as the beginning of a sentence.
        extra: name of the extra of this package that brings it.
    """

    http_status = 501
    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra {extra!r}: run `pip install 'openkeypoints[{extra}]'`."
        )
        self.extra = extra


class RuntimeUnavailableError(OpenKeypointsError):
    """A runtime, device or precision is not present here; the message lists what is."""

    http_status = 503


class InferenceError(OpenKeypointsError):
    """A model broke down on a picture, or while it was loaded; the log has the reason."""


class OverloadedError(OpenKeypointsError):
    """There is no room or no time for a call now; the same call may succeed later.

    Attributes:
        retry_after_s: seconds after which another try makes sense.
        reason: ``queue`` (too much is waiting), ``inflight`` (memory of the calls), ``memory``
            (of the models), ``loading``, ``deadline``, ``draining`` or ``stuck`` (the model hangs).
    """

    http_status = 503

    def __init__(self, message: str, retry_after_s: float, reason: OverloadReason) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason: OverloadReason = reason


class DownloadError(OpenKeypointsError):
    """An address did not deliver: unreachable, too slow, or an error status."""

    http_status = 502


class RefusedError(DownloadError):
    """A source of weights says no to the key that it was given, or wants to be paid."""


class ForbiddenAddressError(DownloadError, InputError):
    """An address that input from other people may not reach (private, loopback, not https)."""

    http_status = 400
    exit_code = 4


class UnauthorizedError(OpenKeypointsError):
    """A request carries no key, or none that the server knows."""

    http_status = 401


class PermissionDeniedError(OpenKeypointsError):
    """A caller is known and may not do this."""

    http_status = 403


class RateLimitError(OpenKeypointsError):
    """A key asks more often, or for more at once, than it may.

    Args:
        message: see ``OpenKeypointsError``.
        retry_after_s: seconds after which asking again makes sense.
    """

    http_status = 429

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def numbered(error: OpenKeypointsError, index: int, count: int) -> OpenKeypointsError:
    """Return an error whose message says which of several pictures it is about."""
    if count > 1:
        error.args = (f"images[{index}]: {error}",)
    return error
