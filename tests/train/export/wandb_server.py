"""A W&B server on the loopback: it holds artifacts, answers what the client asks to download one, and counts."""

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

KEY = "local" + 35 * "0"
WHEN = "2026-01-01T00:00:00Z"
ENTITY, PROJECT = "reef", "kelp"


def digest_of(content: bytes) -> str:
    """Base64 MD5, as a manifest gives it."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()


@dataclass
class Stored:
    """One artifact version.

    Args:
        collection: Its name without a version.
        index: Its version.
        files: Contents by path.
        aliases: Names besides the version.
        metadata: What was stored with it.
        sent: What is sent in place of a content.
        manifest: What an entry of the manifest says in place of the truth.
    """

    collection: str
    index: int
    files: Mapping[str, bytes]
    aliases: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sent: Mapping[str, bytes] = field(default_factory=dict)
    manifest: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """An id that nothing else has."""
        return base64.b64encode(f"Artifact:{self.collection}:{self.index}".encode()).decode()

    def answers_to(self, name: str) -> bool:
        """Whether `COLLECTION:VERSION` or `COLLECTION:ALIAS` means this one."""
        collection, _, version = name.partition(":")
        return collection == self.collection and version in (f"v{self.index}", *self.aliases)

    def manifest_json(self) -> dict[str, Any]:
        """What its manifest file holds."""
        contents = {
            path: {"digest": digest_of(content), "size": len(content), "birthArtifactID": self.id}
            | dict(self.manifest.get(path, {}))
            for path, content in self.files.items()
        }
        return {
            "version": 1,
            "storagePolicy": "wandb-storage-policy-v1",
            "storagePolicyConfig": {"storageLayout": "V2"},
            "contents": contents,
        }

    def membership(self) -> dict[str, Any]:
        """What the server tells of it."""
        project = {"id": "p", "internalId": "cDox", "name": PROJECT, "entity": {"name": ENTITY}}
        artifact = {
            "__typename": "Artifact",
            "id": self.id,
            "artifactSequence": {"__typename": "ArtifactSequence", "name": self.collection, "project": project},
            "versionIndex": self.index,
            "artifactType": {"name": "model"},
            "description": None,
            "metadata": json.dumps(dict(self.metadata)),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": sum(map(len, self.files.values())),
            "digest": hashlib.md5(self.id.encode()).hexdigest(),
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "c",
            "fileCount": len(self.files),
            "createdAt": WHEN,
            "updatedAt": WHEN,
        }
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": f"m{self.index}",
            "versionIndex": self.index,
            "createdAt": WHEN,
            "aliases": [{"__typename": "ArtifactAlias", "id": alias, "alias": alias} for alias in self.aliases],
            "artifactCollection": {"__typename": "ArtifactSequence", "name": self.collection, "project": project},
            "artifact": artifact,
        }


class WandbServer(ThreadingHTTPServer):
    """Holds artifacts of `reef/kelp`; `asked` counts GraphQL operations and the paths of files sent."""

    daemon_threads = True

    def __init__(self, *artifacts: Stored) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.artifacts = list(artifacts)
        self.asked: Counter[str] = Counter()
        self.refuses = False
        self.stalls = False
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def find(self, name: str) -> Stored | None:
        """The artifact of a name with a version or an alias."""
        return next((a for a in self.artifacts if a.answers_to(name)), None)

    def answer(self, operation: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        match operation:
            case "Viewer" | "GetDefaultEntity":
                user = {"__typename": "User", "username": ENTITY, "email": "a@b.c", "flags": "{}"}
                viewer = {**user, "id": "u", "entity": ENTITY, "teams": {"edges": []}}
                return {"viewer": viewer}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "ArtifactMembershipByName":
                if (variables["entity"], variables["project"]) != (ENTITY, PROJECT):
                    return {"project": None}
                stored = self.find(variables["name"])
                return {"project": {"artifactCollectionMembership": stored.membership() if stored else None}}
            case "FetchArtifactManifest":
                stored = next(a for a in self.artifacts if a.id == variables["id"])
                address = f"{self.url}/manifest/{stored.collection}:v{stored.index}"
                return {"artifact": {"currentManifest": {"file": {"directUrl": address}}}}
            case "GetArtifactMembershipFileUrls":
                name = f"{variables['collection']}:{variables['alias']}"
                stored = self.find(name)
                assert stored is not None
                edges = [
                    {
                        "node": {
                            "__typename": "File",
                            "name": path,
                            "directUrl": f"{self.url}/file/{name}/{quote(path, safe='')}",
                        }
                    }
                    for path in stored.files
                ]
                files = {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}
                membership = {"artifactMembership": {"files": files}}
                return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", **membership}}}
        return {}


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def log_message(self, *_: object) -> None:
        return None

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/graphql":
            self._send(404, b"{}")
            return
        query = json.loads(body)
        operation = query.get("operationName") or query["query"].split("(")[0].split("{")[0].split()[1]
        self.server.asked[operation] += 1
        expected = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        if self.server.refuses or self.headers["Authorization"] != expected:
            self._send(401, json.dumps({"errors": [{"message": "user is not logged in"}]}).encode())
            return
        self._send(200, json.dumps({"data": self.server.answer(operation, query.get("variables") or {})}).encode())

    def do_GET(self) -> None:
        kind, name, *rest = self.path.strip("/").split("/")
        stored = self.server.find(unquote(name))
        if stored is None:
            self._send(404, b"{}")
            return
        if kind == "manifest":
            self._send(200, json.dumps(stored.manifest_json()).encode())
            return
        path = unquote(rest[0])
        self.server.asked[path] += 1
        content = stored.sent.get(path, stored.files[path])
        if self.server.stalls:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.ended.wait(60)
            return
        self._send(200, content)


@contextmanager
def serving(*artifacts: Stored) -> Iterator[WandbServer]:
    """A server that answers until the block ends."""
    server = WandbServer(*artifacts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
