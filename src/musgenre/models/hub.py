"""Downloads from and uploads to the Hugging Face Hub."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TypedDict

from musgenre.core.errors import WeightsError

_log = logging.getLogger(__name__)


class HubOptions(TypedDict, total=False):
    """Options for loading a model from the Hub, with the Hub's own names; all are optional.

    The environment variable ``HF_HUB_OFFLINE=1`` sets ``local_files_only`` everywhere; ``HF_TOKEN`` and ``HF_HOME`` set
    the token and the cache directory.

    Attributes:
        revision: Branch, tag or commit.
        cache_dir: Directory of the downloads; by default the cache that all libraries of the Hub share.
        token: Access token for private models; by default the one that ``hf auth login`` stored, ``False`` sends none.
        local_files_only: Whether to use only files that are already in the cache.
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
    """Returns the cache directory with a model's files, downloading those that are missing.

    Args:
        name: The Hub id, ``"org/name"``.
        files: Names of the files; no others are downloaded.
        revision: See :class:`HubOptions`.
        cache_dir: See :class:`HubOptions`.
        token: See :class:`HubOptions`.
        local_files_only: See :class:`HubOptions`.

    Raises:
        WeightsError: There is no such model or revision, access is denied, or the Hub cannot be reached.
    """
    import huggingface_hub

    _log.info("Looking up the model %r, revision %s, on the Hub or in its cache.", name, revision or "main")
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
        # The Hub's client also raises errors of its HTTP library, whose types depend on the version.
        raise WeightsError(
            f"The model {name!r} (revision {revision or 'main'}) could not be downloaded from the Hub: "
            f"{_first_line(error)} Check the name, the revision and the network (and the token, if the model is "
            "private), or give a local directory."
        ) from error
    return Path(directory)


def upload(
    folder: Path,
    *,
    name: str,
    message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    create_pr: bool = False,
) -> str:
    """Uploads the files of a directory to the Hub in one commit, creating the repository if necessary.

    Args:
        folder: The directory.
        name: The Hub id, ``"org/name"``, or only a name for the user's own account.
        message: The commit message.
        private: Whether a new repository is private; ``None`` uses the organisation's default.
        token: Access token with write permission; see :class:`HubOptions`.
        branch: The branch; ``None`` for the main branch.
        create_pr: Whether to open a pull request instead of committing.

    Returns:
        The URL of the commit.

    Raises:
        WeightsError: The Hub cannot be reached, or refuses the upload.
    """
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi(token=token)
        repository = str(api.create_repo(name, private=private, exist_ok=True).repo_id)
        _log.info("Uploading %s to the Hub as %r.", ", ".join(sorted(os.listdir(folder))), repository)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, revision=branch, create_pr=create_pr
        )
    except Exception as error:
        raise WeightsError(
            f"The model could not be uploaded to the Hub as {name!r}: {_first_line(error)} Check the name, the "
            "network, and that the token has write permission ('hf auth login', or token=...)."
        ) from error
    return str(commit.commit_url)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
