"""Errors that a user can act on: what is wrong, where, what is allowed, what to do.

Every error that we raise on purpose derives from `LookalikeError`, so that the command line and the server
can print its message without a traceback and let real faults show theirs.
"""


class LookalikeError(Exception):
    """Base of all errors raised on purpose; its message is written for the user."""


class SettingsError(LookalikeError):
    """A setting is unknown or has a value that is not allowed; names file, key, value and what is allowed."""


class SpaceMismatch(LookalikeError):
    """Vectors, index or encoder of two different embedding spaces met; never a warning."""


class CorruptArtifact(LookalikeError):
    """A file of a release is missing, or its checksum differs from the manifest."""


class NotPromotable(LookalikeError):
    """A version without a passed verdict was asked to go live."""


class NotFound(LookalikeError):
    """A named thing (item, version, alias, table, file) does not exist."""


class BadQuery(LookalikeError):
    """A search request that cannot be answered as asked; the message says which part and what is allowed."""


class CursorExpired(BadQuery):
    """A cursor of another release or another query; the caller starts again from the first page."""


class MissingPrerequisite(LookalikeError):
    """A program, package or file that this step needs is not there; the message says how to get it."""


class TryAgain(LookalikeError):
    """Something that this work needs is away for now; the same command may well succeed later."""
