"""Every exception the library raises on purpose.

OpenKeypointsError
    InputError                  400 / 4   a value in a call is wrong
        ImageDecodeError        400 / 4   bytes that are no readable picture
        ImageTooLargeError      413 / 4   more pixels or bytes than allowed
        FormatError             422 / 4   foreign JSON or annotations do not fit
        OutputExistsError       409 / 4   writing would replace a file of somebody else
    NotFoundError               404 / 3   a file or address does not exist
        UnknownModelError       404 / 3   no model of that name; the closest ones are listed
        UnknownSkeletonError    404 / 3   no skeleton of that name
    WeightsError                502 / 1   a model file cannot be used
    MissingExtraError           501 / 2   an optional part is missing; the message has the command
    RuntimeUnavailableError     503 / 1   runtime, device or precision not present here
    DownloadError               502 / 1   an address did not deliver
        ForbiddenAddressError   400 / 4   not to be reached on behalf of other people

The two numbers are the HTTP status and the exit code of the command line.
"""

from __future__ import annotations

from typing import ClassVar, Literal

ImageFault = Literal[
    "empty_file", "unreadable", "truncated", "unsupported_pixels", "unsupported_format"
]


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


class WeightsError(OpenKeypointsError):
    """A model file cannot be used: damaged, of an unknown kind, or not what its name says."""

    http_status = 502


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


class DownloadError(OpenKeypointsError):
    """An address did not deliver: unreachable, too slow, or an error status."""

    http_status = 502


class ForbiddenAddressError(DownloadError, InputError):
    """An address that input from other people may not reach (private, loopback, not https)."""

    http_status = 400
    exit_code = 4
