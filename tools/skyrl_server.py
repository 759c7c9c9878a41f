"""SkyRL's Tinker server on CPU, in an environment of its own: to try and to test the Tinker engine against a real server.

python tools/skyrl_server.py install ENV                        make the environment (several gigabytes)
python tools/skyrl_server.py start ENV MODEL [--port 8123]      serve a model folder until Ctrl-C

SkyRL 0.3.0 needs two things that a plain environment lacks. On Python 3.11 its types want ``typing_extensions.TypedDict``, which a
``sitecustomize`` puts in place. Its API process starts the engine by ``uv run``, and reads its own parent's command line; a small
``uv`` of ours runs the engine with the same Python.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELEASE = "skyrl[tinker,jax]==0.3.0"

TYPED_DICTS = "import typing, typing_extensions\ntyping.TypedDict = typing_extensions.TypedDict\n"

UV = """#!/bin/bash
# uv run FLAGS -m MODULE ARGUMENTS: the module with this environment's Python; the API reads this command line.
while [ "$1" != "-m" ]; do shift; done
"{python}" "$@" &
child=$!
trap 'kill $child' TERM INT
wait $child
"""


def install(env: Path) -> None:
    """Make the environment."""
    venv.create(env, with_pip=True)
    subprocess.run([env / "bin" / "pip", "install", "--quiet", RELEASE], check=True)
    (site,) = (env / "lib").glob("python*/site-packages")
    (site / "sitecustomize.py").write_text(TYPED_DICTS)


@contextmanager
def serving(env: Path, model: Path, port: int, folder: Path, rank: int = 32) -> Iterator[subprocess.Popen[bytes]]:
    """The server with its files in ``folder``; it ends with the block."""
    tools = folder / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    uv = tools / "uv"
    uv.write_text(UV.format(python=env / "bin" / "python"))
    uv.chmod(0o755)
    command = [uv, "run", "-m", "skyrl.tinker.api", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--base-model", model.resolve(), "--backend", "jax"]
    command += ["--backend-config", json.dumps({"max_lora_adapters": 32, "max_lora_rank": rank})]
    command += [
        "--checkpoints-base",
        folder / "checkpoints",
        "--database-url",
        f"sqlite:////{folder.resolve()}/tinker.db",
    ]
    surroundings = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    surroundings.pop("PYTHONPATH", None)
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [str(part) for part in command], env=surroundings, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield server
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["install", "start"])
    parser.add_argument("env", type=Path)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--rank", type=int, default=32)
    arguments = parser.parse_args()
    if arguments.command == "install":
        return install(arguments.env)
    if arguments.model is None:
        parser.error("start needs a model folder")
    folder = Path(tempfile.mkdtemp(prefix="skyrl-"))
    with serving(arguments.env, arguments.model, arguments.port, folder, arguments.rank) as server:
        print(f"serving {arguments.model} at http://127.0.0.1:{arguments.port}; log in {folder / 'server.log'}")
        try:
            sys.exit(server.wait())
        except KeyboardInterrupt:
            return None


if __name__ == "__main__":
    main()
