"""W&B client program that `artifact_process` runs in a subprocess: `python -m train.export.artifact_client`.

W&B's client waits for files without a time limit, retries for twenty minutes and can't be interrupted while it
downloads; a process can be ended at any moment. The program reads orders from stdin and answers on stdout, one JSON
object per line:

    -> {"server": "https://api.wandb.ai"}
    -> {"found": {"name": ..., "metadata": {...}, "files": [{"path", "digest", "algorithm", "size", "ref"}, ...]}}
    <- {"file": "model.ckpt", "folder": "/where/to"}    or the end of stdin: no download
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

from inference.common.errors import UserError, first_line

# Hosts of W&B's web pages, which differ from the host of its API: users copy the URL from their browser.
PUBLIC_HOSTS = {"wandb.ai", "www.wandb.ai"}
INSTEAD = "or give a local .ckpt or run folder instead"


def main() -> int:
    """Answer for one artifact; the arguments are its name, the host of its page (may be empty) and the timeout in s."""
    name, host, timeout = sys.argv[1], sys.argv[2], float(sys.argv[3])
    # Output of W&B's client must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import wandb

    try:
        _serve(answers, name, host, timeout)
    except UserError as error:
        _send(answers, error=str(error))
    except Exception as error:  # any failure of W&B's client becomes one line for the user
        _send(answers, error=f"{name}: W&B's client failed ({_reason(error)}); try again, {INSTEAD}")
    finally:
        wandb.teardown()
    return 0


def _send(answers: TextIO, **message: Any) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _serve(answers: TextIO, name: str, host: str, timeout: float) -> None:
    import wandb

    settings = wandb.setup().settings
    server = str(settings.base_url).rstrip("/")
    _send(answers, server=server)
    hosts = PUBLIC_HOSTS | {urlsplit(url).hostname for url in (server, str(settings.app_url))}
    if host and host not in hosts:
        raise UserError(f"{name}: its page is on {host}, but W&B is configured for {server} (set WANDB_BASE_URL)")
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
    _send(answers, found=found)
    order = sys.stdin.readline()
    if order:
        wanted = json.loads(order)
        # Not multipart: the parent process takes a file that doesn't grow for a stalled download.
        artifact.download(root=wanted["folder"], path_prefix=wanted["file"], multipart=False)
        _send(answers, done=True)


def _connect(name: str, server: str, timeout: float) -> Any:
    """Return W&B's API client with a verified key."""
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    # Otherwise the client would retry until its timeout and then report a failure of its own service process.
    unreachable = _unreachable(server, timeout / 2)
    try:
        # A missing key is found without a network, so it is reported first.
        api = wandb.Api(timeout=1 if unreachable else timeout)  # type: ignore[arg-type] # accepts floats too
    except AuthenticationError as error:
        if not unreachable:
            raise UserError(_refused(name, server, error)) from None
    except UsageError:
        raise UserError(
            f"{name}: no W&B API key for {server} (run `wandb login`, or set WANDB_API_KEY), {INSTEAD}"
        ) from None
    if unreachable:
        raise UserError(
            f"{name}: {server} can't be reached ({unreachable}); a downloaded artifact is also looked up there first: "
            f"check the network, {INSTEAD}"
        )
    return api


def _unreachable(server: str, timeout: float) -> str | None:
    """Return the reason why the server doesn't answer; None where it does, with any status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=timeout):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def _refused(name: str, server: str, error: Exception) -> str:
    """Return the message for a key that could not be verified."""
    cause = error.__cause__  # None where the key has the wrong form
    status = getattr(getattr(cause, "response", None), "http_status", 0)
    reason = _reason(cause) if cause is not None else ""
    if cause is None or status in (401, 403) or "invalid credentials" in reason:
        fix = f"run `wandb login --relogin`, or correct WANDB_API_KEY, {INSTEAD}"
        return f"{name}: {server} refused the W&B API key ({fix})"
    if "<" in reason and status in (0, 200, 404):
        reason = "it answered with a web page: is WANDB_BASE_URL right?"
    elif status:
        reason = f"HTTP {status}"
    return f"{name}: {server} can't be used as a W&B server ({reason}); try again, {INSTEAD}"


def _find(api: Any, name: str) -> Any:
    """Return the artifact, or raise a UserError that names the latest version."""
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
        f"{name}: no such W&B artifact, or none that your key gives access to (give ENTITY/PROJECT/NAME:VERSION as "
        "shown on its page)"
    )


def _reason(error: BaseException) -> str:
    """Return the HTTP status or first line of an error, without the signed URL of a file."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    return first_line(error)


if __name__ == "__main__":
    sys.exit(main())
