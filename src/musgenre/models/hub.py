"""The Hugging Face Hub: models come from there, and go there."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TypedDict

from musgenre.core.errors import WeightsError

_log = logging.getLogger(__name__)


class HubOptions(TypedDict, total=False):
    """What may be said of a model on the hub; all of it can be left out, and the names are the hub's own.

    The environment variable ``HF_HUB_OFFLINE=1`` means ``local_files_only`` everywhere, ``HF_TOKEN`` and ``HF_HOME``
    stand for ``token`` and for the folder of ``cache_dir``.

    Attributes:
        revision: Branch, tag or commit.
        cache_dir: Where downloads are kept, in place of the cache that all of the hub's libraries share.
        token: Who asks, for private models; by default what ``hf auth login`` stored, and ``False`` sends none.
        local_files_only: Whether the model must be in the cache already.
    """

    revision: str | None
    cache_dir: str | os.PathLike[str] | None
    token: str | bool | None
    local_files_only: bool


def download(
    name: str,
    *,
    files: list[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """Returns the folder in the cache with a model's files, downloading those that are not there.

    Args:
        name: The hub id, ``"org/name"``.
        files: The names of the files; no other is downloaded.
        revision: See :class:`HubOptions`, as for the others.
        cache_dir: See there.
        token: See there.
        local_files_only: See there.

    Raises:
        WeightsError: There is no such model or revision, it may not be seen, or the hub cannot be reached.
    """
    import huggingface_hub

    _log.info("Looking for the model %r, revision %s, on the hub or in its cache.", name, revision or "main")
    try:
        directory = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
            token=token,
            local_files_only=local_files_only,
            allow_patterns=files,
        )
    except Exception as error:
        # Besides its own errors the hub's client lets those of its HTTP library through, which differ by version.
        raise WeightsError(
            f"The model {name!r} (revision {revision or 'main'}) is not to be had from the hub: {_reason(error)} Check "
            "the name, the revision and the network (and the token, where the model is private), or name a local "
            "directory."
        ) from error
    return Path(directory)


def upload(
    folder: Path,
    *,
    name: str,
    message: str,
    private: bool | None,
    token: str | bool | None,
    target: tuple[str | None, bool],
) -> str:
    """Puts the files of a folder on the hub in one commit, in a repository that is made if it is not there.

    Args:
        folder: The folder.
        name: The hub id, ``"org/name"``, or a name alone for one's own account.
        message: The commit's message.
        private: Whether a new repository can be seen by its owners only; ``None`` leaves it to the organisation.
        token: Who writes; see :class:`HubOptions`.
        target: The branch, ``None`` for the main one, and whether a pull request is opened in place of a commit.

    Returns:
        The address of the commit.

    Raises:
        WeightsError: The hub cannot be reached, or refuses.
    """
    import huggingface_hub

    branch, create_pr = target
    try:
        api = huggingface_hub.HfApi(token=token)
        found = str(api.create_repo(name, private=private, exist_ok=True).repo_id)
        _log.info("Uploading %s to the hub as %r.", ", ".join(sorted(os.listdir(folder))), found)
        commit = api.upload_folder(
            repo_id=found, folder_path=folder, commit_message=message, revision=branch, create_pr=create_pr
        )
    except Exception as error:
        raise WeightsError(
            f"The model cannot be put on the hub as {name!r}: {_reason(error)} Check the name, the network, and that "
            "the token may write there ('hf auth login', or token=...)."
        ) from error
    return str(commit.commit_url)


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
