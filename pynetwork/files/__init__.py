"""Files from and to a gateway, over the lanes of a swarm.

`download` and `upload` move files in indexed chunks and packs that the lanes take from one plan, check every
digest, and give a file its name when it is complete and verified. One bad file never ends a job: the report
says what was skipped, and why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from handshakes.errors import ConfigurationError
from handshakes.manifest import CHUNK_LIMIT, Skipped
from handshakes.paths import check_path
from pynetwork.files.downloads import Download, list_share
from pynetwork.files.jobs import TransferReport
from pynetwork.files.progress import Progress
from pynetwork.files.uploads import Upload
from pynetwork.lanes import Lanes, OneLane

__all__ = ["Progress", "Skipped", "TransferReport", "download", "list_share", "make_download", "make_upload", "upload"]


def download(
    lanes: Lanes | OneLane,
    share: str,
    *,
    pattern: str | None = None,
    files: Sequence[str] | None = None,
    to: str | os.PathLike[str],
    durable: bool = False,
    progress: bool | Progress | None = None,
    overwrite: bool = True,
    flat: bool = False,
    chunk_size: int | None = None,
) -> TransferReport:
    """Bring files of the shared folder ``share`` into the folder ``to``, which is made if need be.

    - ``pattern``: a regular expression; only files whose path in the share, with ``/``, matches it as a
      whole.
    - ``files``: only these paths in the share.
    - ``durable``: every file is on the disk, with its name, before it counts.
    - ``progress``: None shows a bar on stderr when that is a terminal, True and False say so; or a callable,
      see `Progress`.
    - ``overwrite``: False keeps files that exist; they are among the skipped.
    - ``flat``: every file lands in ``to`` itself, without the folders on its path; of two that have one name
      there, the second is skipped.
    - ``chunk_size``: bytes, for measuring; large files have larger ones by themselves.

    Raises `ConfigurationError` and `UnsafePath` for arguments that can't be, before anything is sent;
    `NotFound` when there is no such share, `Forbidden` without the right, `ConnectionLost` when no lane is
    left, `RemoteProtocolError` when the gateway breaks the protocol, and `OSError` when ``to`` can't be made.
    """
    job = make_download(
        lanes.count,
        share,
        pattern=pattern,
        files=files,
        to=to,
        durable=durable,
        progress=progress,
        overwrite=overwrite,
        flat=flat,
        chunk_size=chunk_size,
    )
    return job.run(lanes)


def make_download(
    lanes: int,
    share: str,
    *,
    pattern: str | None = None,
    files: Sequence[str] | None = None,
    to: str | os.PathLike[str],
    durable: bool = False,
    progress: bool | Progress | None = None,
    overwrite: bool = True,
    flat: bool = False,
    chunk_size: int | None = None,
) -> Download:
    """The job of `download`, for so many lanes of any driver. Raises `ConfigurationError` and `UnsafePath`."""
    if pattern is not None and files is not None:
        raise ConfigurationError("pattern= and files= both say what to download; give one of them")
    matcher = None
    if pattern is not None:
        try:
            matcher = re.compile(pattern)
        except re.error as error:
            raise ConfigurationError(f"pattern={pattern!r} is no regular expression: {error}") from error
    if isinstance(files, str):
        raise ConfigurationError(f"files={files!r} must be a list of paths")
    names = None if files is None else list(dict.fromkeys(files))
    for name in names or ():
        check_path(name)
    return Download(
        share,
        matcher,
        names,
        to,
        lanes=lanes,
        durable=durable,
        overwrite=overwrite,
        flat=flat,
        progress=progress,
        chunk_size=_checked(chunk_size),
    )


def upload(
    lanes: Lanes | OneLane,
    paths: Sequence[str | os.PathLike[str]],
    *,
    dirname: str = "",
    durable: bool = False,
    progress: bool | Progress | None = None,
    chunk_size: int | None = None,
) -> TransferReport:
    """Send files and folders into ``dirname`` below the gateway's folder for uploads.

    A file keeps its name; what is below a folder keeps its path, beginning with the folder's name. Two files
    that would have the same name there are not mixed up: the second is skipped. Options and errors as with
    `download`.
    """
    job = make_upload(lanes.count, paths, dirname=dirname, durable=durable, progress=progress, chunk_size=chunk_size)
    return job.run(lanes)


def make_upload(
    lanes: int,
    paths: Sequence[str | os.PathLike[str]],
    *,
    dirname: str = "",
    durable: bool = False,
    progress: bool | Progress | None = None,
    chunk_size: int | None = None,
) -> Upload:
    """The job of `upload`, for so many lanes of any driver. Raises `ConfigurationError` and `UnsafePath`."""
    if isinstance(paths, (str, os.PathLike)):
        raise ConfigurationError(f"paths={paths!r} must be a list of files and folders")
    if dirname:
        check_path(dirname)
    return Upload(
        paths,
        dirname,
        lanes=lanes,
        durable=durable,
        progress=progress,
        chunk_size=_checked(chunk_size),
    )


def _checked(chunk_size: int | None) -> int | None:
    if chunk_size is not None and not 1 <= chunk_size <= CHUNK_LIMIT:
        raise ConfigurationError(f"chunk_size={chunk_size} must be 1 to {CHUNK_LIMIT} bytes")
    return chunk_size
