"""Exceptions of the service, as one tree that knows nothing of HTTP.

ServiceError                  the message may be shown to a client as it stands
 ├─ ImageError
 │   ├─ UnreadableImage
 │   ├─ UnsupportedImage
 │   └─ ImageTooLarge
 ├─ DamagedCode
 ├─ MalformedBody
 ├─ UnsupportedBody
 ├─ BodyTooLarge
 ├─ TooManyItems
 ├─ InvalidField
 ├─ Unauthorized
 ├─ NotOffered
 ├─ NotAcceptable
 ├─ WrongModel
 ├─ QueueFull
 ├─ QueueTimeout
 ├─ NotReady
 └─ InferenceFailed
StartupError                  the service refuses to start; the message is for the operator
 ├─ ModelFolderError
 ├─ ProviderUnavailable
 ├─ KeysUnreadable
 └─ TracingUnavailable
"""

from collections.abc import Sequence


class ServiceError(Exception):
    """An error whose message may be shown to a client as it stands."""


class ImageError(ServiceError):
    """An image that cannot be used."""


class UnreadableImage(ImageError):
    """The bytes are broken, truncated or empty."""


class UnsupportedImage(ImageError):
    """The bytes are of no image format that is accepted."""


class ImageTooLarge(ImageError):
    """The header of the image announces more pixels than are allowed."""


class DamagedCode(ServiceError):
    """Bytes or text that are no code, or one of which a part is missing or altered."""


class MalformedBody(ServiceError):
    """The body is not what its content type says: broken JSON or multipart."""


class UnsupportedBody(ServiceError):
    """The content type or encoding of the body is not one this endpoint reads.

    Attributes:
        accept_encoding: the encodings that are read, where it is the encoding.
    """

    def __init__(self, message: str, accept_encoding: str | None = None) -> None:
        super().__init__(message)
        self.accept_encoding = accept_encoding


class BodyTooLarge(ServiceError):
    """The body has more bytes than are allowed."""


class TooManyItems(ServiceError):
    """The request holds more images or latents than are allowed."""


class InvalidField(ServiceError):
    """Well-formed input of the wrong shape or out of range.

    Attributes:
        problems: (place, message) pairs; a place reads like `latents[3][17]` or `query.size`.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{place}: {message}" for place, message in problems))
        self.problems = tuple(problems)


class Unauthorized(ServiceError):
    """An API key is configured and the request has none or a wrong one."""


class NotOffered(ServiceError):
    """What the path stands for is not given here: it is switched off, or the model has none of it."""


class NotAcceptable(ServiceError):
    """The client accepts none of the formats the endpoint can answer in."""


class WrongModel(ServiceError):
    """The latents or the code belong to another model than the one served."""


class QueueFull(ServiceError):
    """There is no room for the request's rows; nothing was queued.

    Attributes:
        retry_after: seconds after which there is likely to be room.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueTimeout(ServiceError):
    """The request waited longer in the queue than is allowed."""


class NotReady(ServiceError):
    """The service is starting, draining or unable to answer."""


class InferenceFailed(ServiceError):
    """The model failed on the batch the request was in."""


class StartupError(Exception):
    """The service cannot start; the message says why in one line."""


class ModelFolderError(StartupError):
    """The model folder is missing, incomplete or not what its manifest says."""


class ProviderUnavailable(StartupError):
    """The execution provider that was asked for does not work on this machine."""


class KeysUnreadable(StartupError):
    """The file with the API keys cannot be read, or holds none."""


class TracingUnavailable(StartupError):
    """Tracing is asked for, and a package or a variable of OpenTelemetry is not as it needs."""
