"""Talks to Weights & Biases for `artifact.py`, in a process of its own: `python -m train.export.artifact_client`.

W&B's client waits for files without a limit, retries for twenty minutes and can't be interrupted while it downloads. A
process can be ended at any moment. It reads its orders from stdin and answers on stdout, one JSON object a line:

    -> {"server": "https://api.wandb.ai"}
    -> {"found": {"name": ..., "metadata": {...}, "files": [{"path", "digest", "algorithm", "size", "ref"}, ...]}}
    <- {"file": "model.ckpt", "folder": "/where/to"}    or the end of stdin: nothing is needed
    -> {"done": true}

or `{"error": "one line for the user"}` in place of any answer.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from typing import Any, TextIO
from urllib.parse import urlsplit

from inference.common.errors import UserError

# W&B's own, wherever its programming interface is: people copy the address of the page from their browser.
PUBLIC_HOSTS = {"wandb.ai", "www.wandb.ai"}
INSTEAD = "or give a local .ckpt or run folder instead"


def main() -> int:
    """Answers for one artifact; the arguments are its name, the host of its page (may be empty) and seconds."""
    name, host, timeout = sys.argv[1], sys.argv[2], float(sys.argv[3])
    # Whatever the client prints must not end up between our answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import wandb

    try:
        _converse(answers, name, host, timeout)
    except UserError as error:
        _say(answers, error=str(error))
    except Exception as error:  # whatever W&B stumbles over is one line for the user
        _say(answers, error=f"{name}: W&B's client failed ({_reason(error)}); try again, {INSTEAD}")
    finally:
        wandb.teardown()
    return 0


def _say(answers: TextIO, **message: Any) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _converse(answers: TextIO, name: str, host: str, timeout: float) -> None:
    import wandb

    settings = wandb.setup().settings
    server = str(settings.base_url).rstrip("/")
    _say(answers, server=server)
    hosts = PUBLIC_HOSTS | {urlsplit(url).hostname for url in (server, str(settings.app_url))}
    if host and host not in hosts:
        raise UserError(f"{name}: its page is on {host}, but W&B is set up for {server} (set WANDB_BASE_URL)")
    artifact = _find(_connect(name, server, timeout), name)
    collection = str(artifact.name).partition(":")[0]
    entries = artifact.manifest.entries
    found = {
        "name": f"{artifact.entity}/{artifact.project}/{collection}:{artifact.version}",
        "metadata": artifact.metadata,
        "files": [
            {
                "path": path,
                "digest": entry.digest,
                "algorithm": str(entry.extra.get("alg", "MD5")),
                "size": entry.size,
                "ref": entry.ref,
            }
            for path, entry in entries.items()
        ],
    }
    _say(answers, found=found)
    order = sys.stdin.readline()
    if order:
        wanted = json.loads(order)
        # Not in parts: the other side takes a file that doesn't grow for a download that stands still.
        artifact.download(root=wanted["folder"], path_prefix=wanted["file"], multipart=False)
        _say(answers, done=True)


def _connect(name: str, server: str, timeout: float) -> Any:
    """W&B's client, its key verified."""
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    # The client would retry until its time is over, and then blame its own service process.
    unreachable = _unreachable(server, timeout / 2)
    try:
        # A missing key is told without a network, so it is what we tell first.
        api = wandb.Api(timeout=1 if unreachable else timeout)  # type: ignore[arg-type] # any number will do
    except AuthenticationError as error:
        if not unreachable:
            raise UserError(_refused(name, server, error)) from None
    except UsageError:
        raise UserError(
            f"{name}: no W&B API key for {server} (run `wandb login`, or set WANDB_API_KEY), {INSTEAD}"
        ) from None
    if unreachable:
        raise UserError(
            f"{name}: {server} can't be reached ({unreachable}); a downloaded artifact too is looked up there first: "
            f"check the network, {INSTEAD}"
        )
    return api


def _unreachable(server: str, timeout: float) -> str | None:
    """Why the server doesn't answer; None where it does, whatever it says."""
    try:
        with urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=timeout):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def _refused(name: str, server: str, error: Exception) -> str:
    """What to say where the key could not be verified."""
    cause = error.__cause__  # none where the key does not even look like one
    status = getattr(getattr(cause, "response", None), "http_status", 0)
    reason = _reason(cause) if cause is not None else ""
    if cause is None or status in (401, 403) or "invalid credentials" in reason:
        mend = f"run `wandb login --relogin`, or mend WANDB_API_KEY, {INSTEAD}"
        return f"{name}: {server} refused the W&B API key ({mend})"
    if "<" in reason and status in (0, 200, 404):
        reason = "it answered with a web page: is WANDB_BASE_URL right?"
    elif status:
        reason = f"HTTP {status}"
    return f"{name}: {server} can't be used as a W&B server ({reason}); try again, {INSTEAD}"


def _find(api: Any, name: str) -> Any:
    """The artifact."""
    from wandb.errors import CommError

    try:
        return api.artifact(name)
    except (CommError, ValueError) as error:
        if not re.search("not found|could not find", str(error).lower()):
            raise
    path, _, version = name.partition(":")
    if version != "latest":
        try:
            latest = api.artifact(f"{path}:latest")
        except (CommError, ValueError):
            latest = None
        if latest is not None:
            aliases = ", ".join(latest.aliases)
            raise UserError(f"{name}: has no version or alias {version!r} (the latest is {latest.version}: {aliases})")
    raise UserError(
        f"{name}: no such W&B artifact, or none that your key may see (give ENTITY/PROJECT/NAME:VERSION as its page "
        "shows it)"
    )


def _reason(error: BaseException) -> str:
    """The first line of an error, without the signed address of a file."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
