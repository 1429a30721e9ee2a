"""Folder to write to in a bucket of S3 or of a server like it: objects are whole or absent, checked by the server."""

import contextlib
import hashlib
import os
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from inference.batch.bucket.client import new_client, request_arguments
from inference.common.errors import UserError, first_line
from inference.common.text import clean_line

PART_BYTES = 32 * 2**20
"""Size above which an object is sent in parts, and of a part."""
_MOST_PARTS = 10_000
_SENDERS = 4  # parts that are sent at a time
_WRITE = "write"  # key of the metadata that names the request which wrote an object
_ATTEMPTS = 5  # of a conditional request that met another one
_CONFLICT_SECONDS = 0.5
_LONGEST = 300  # characters of a message of the server
_REFUSED = {
    "AccessDenied", "AllAccessDisabled", "AccountProblem", "ExpiredToken", "InvalidAccessKeyId", "InvalidSecurity",
    "InvalidToken", "MethodNotAllowed", "NoSuchBucket", "NotSignedUp", "PermanentRedirect", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch", "TokenRefreshRequired", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException", "InvalidBucketName", "QuotaExceeded", "XMinioStorageFull", "401", "403",
}  # fmt: skip
"""Codes of answers that any other object would get, too."""


class StoreError(UserError):
    """Request that a store has refused, or that has failed as often as it was repeated.

    Args:
        message: Message for the user.
        for_all: True if it concerns all objects: rights, keys or the bucket.
        may_pass: True if the same request may succeed later.
    """

    def __init__(self, message: str, for_all: bool = False, may_pass: bool = False) -> None:
        super().__init__(message)
        self.for_all = for_all
        self.may_pass = may_pass


class Taken(StoreError):
    """Object that exists or has changed, so that it was not written."""


@dataclass(frozen=True)
class Found:
    """Object that exists.

    Attributes:
        size: Size, bytes.
        etag: Tag of its content, for conditional requests.
        metadata: Metadata.
        age: Time since it was written, by the clock of the server, seconds.
        content: Content; empty if it wasn't asked for.
    """

    size: int
    etag: str
    metadata: Mapping[str, str]
    age: float
    content: bytes = b""


class Store:
    """Folder in a bucket.

    Args:
        bucket: Name of the bucket.
        prefix: Key of the folder without slashes at its ends; empty for the whole bucket.

    Attributes:
        address: Address of the folder, s3://BUCKET/PREFIX.
        conditional: False where the server knows no conditional requests.

    Raises:
        UserError: boto3 isn't installed, or a setting is invalid.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self.address = f"s3://{bucket}/{prefix}".rstrip("/")
        self.conditional = True
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._client = new_client(bucket)
        self._common: dict[str, Any] = {"Bucket": bucket, **request_arguments(os.environ)}
        self._own = uuid.uuid4().hex

    def list_names(self) -> dict[str, int]:
        """Return the names of all objects in the folder, at any depth, and their sizes in bytes."""
        names: dict[str, int] = {}
        with self._errors("can't be listed"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(**self._common, Prefix=self._prefix):
                for each in page.get("Contents", ()):
                    names[each["Key"].removeprefix(self._prefix)] = each["Size"]
        return names

    def find(self, name: str) -> Found | None:
        """Return an object without its content; None if there is none."""
        return self._get(name, self._client.head_object)

    def read(self, name: str) -> Found | None:
        """Return an object with its content; None if there is none."""
        return self._get(name, self._client.get_object)

    def put(self, name: str, content: bytes | Path, metadata: Mapping[str, str], only: str | None = None) -> str:
        """Write an object.

        Args:
            name: Its name.
            content: Its content, or a file.
            metadata: Its metadata.
            only: Condition: tag of the object that it may replace, or an empty text if it may replace none; None for
                no condition. An object that this process has written may always be replaced.

        Returns:
            Tag of the object.

        Raises:
            Taken: The condition isn't met.
            StoreError: It can't be written.
        """
        for attempt in range(_ATTEMPTS):
            identity = f"{self._own}-{uuid.uuid4().hex}"
            try:
                return self._put(name, content, {**metadata, _WRITE: identity}, only if self.conditional else None)
            except StoreError as error:
                code = _code(error)
                if code == "NotImplemented" and only is not None and self.conditional:
                    self.conditional = False
                    continue
                if only is None or code not in {"PreconditionFailed", "412", "409", "ConditionalRequestConflict"}:
                    # The server may have done what it was asked for, and its answer was lost.
                    if code == "NoSuchUpload" and (there := self.find(name)) and there.metadata.get(_WRITE) == identity:
                        return there.etag
                    raise
            found = self.find(name)
            writer = "" if found is None else found.metadata.get(_WRITE, "")
            if found is not None and writer == identity:
                return found.etag
            if found is not None and writer.startswith(self._own):
                only = found.etag
            elif found is not None or attempt:
                break
            time.sleep(_CONFLICT_SECONDS)
        raise Taken(f"{self.address}/{name}: was written by another command in the meantime and is kept")

    def delete(self, name: str) -> None:
        """Remove an object, if it exists."""
        with self._errors("can't be removed", name):
            self._client.delete_object(**self._common, Key=self._prefix + name)

    def abandon_uploads(self, names: set[str]) -> None:
        """Remove the parts of objects with these names that killed processes have sent, as far as rights allow it."""
        with contextlib.suppress(StoreError), self._errors("can't be listed"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(**self._common, Prefix=self._prefix):
                for each in page.get("Uploads", ()):
                    if each["Key"].removeprefix(self._prefix) in names:
                        self._client.abort_multipart_upload(**self._common, Key=each["Key"], UploadId=each["UploadId"])

    def _put(self, name: str, content: bytes | Path, metadata: Mapping[str, str], only: str | None) -> str:
        condition = {} if only is None else {"IfMatch": only} if only else {"IfNoneMatch": "*"}
        if isinstance(content, Path) and (size := content.stat().st_size) > PART_BYTES:
            return self._put_parts(name, content, size, metadata, condition)
        body = content.read_bytes() if isinstance(content, Path) else content
        with self._errors("can't be written", name):
            answer = self._client.put_object(
                **self._common,
                Key=self._prefix + name,
                Body=body,
                ContentMD5=_md5(body),
                Metadata=dict(metadata),
                **condition,
            )
        return str(answer["ETag"])

    def _put_parts(
        self, name: str, path: Path, size: int, metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> str:
        each = max(PART_BYTES, -(-size // _MOST_PARTS))
        key = {**self._common, "Key": self._prefix + name}

        def send(number: int) -> dict[str, Any]:
            with path.open("rb") as file:
                file.seek((number - 1) * each)
                body = file.read(each)
            answer = self._client.upload_part(
                **key, UploadId=upload, PartNumber=number, Body=body, ContentMD5=_md5(body)
            )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        with self._errors("can't be written", name):
            upload = self._client.create_multipart_upload(**key, Metadata=dict(metadata))["UploadId"]
            try:
                with ThreadPoolExecutor(_SENDERS) as pool:
                    tasks = [pool.submit(send, number) for number in range(1, -(-size // each) + 1)]
                    try:
                        parts = [task.result() for task in tasks]
                    finally:
                        pool.shutdown(wait=False, cancel_futures=True)
                done = self._client.complete_multipart_upload(
                    **key, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
                )
            except BaseException:
                with contextlib.suppress(Exception):  # it may be complete, or the network is gone
                    self._client.abort_multipart_upload(**key, UploadId=upload)
                raise
        return str(done["ETag"])

    def _get(self, name: str, ask: Any) -> Found | None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                with self._errors("can't be read", name):
                    answer = ask(**self._common, Key=self._prefix + name)
                    content = answer["Body"].read() if "Body" in answer else b""
            except StoreError as error:
                if _code(error) in {"NoSuchKey", "404", "NotFound"}:
                    return None
                if left and isinstance(error.__cause__, _cut_short()):  # which the client doesn't repeat
                    continue
                raise
            break
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = ((parsedate_to_datetime(date) if date else datetime.now(UTC)) - answer["LastModified"]).total_seconds()
        return Found(answer["ContentLength"], answer["ETag"], answer.get("Metadata", {}), age, content)

    @contextlib.contextmanager
    def _errors(self, what: str, name: str = "") -> Iterator[None]:
        """Convert errors of the client into a `StoreError`."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            CredentialRetrievalError,
            HTTPClientError,
            IncompleteReadError,
        )
        from botocore.parsers import ResponseParserError

        passing = (ConnectionError, CredentialRetrievalError, HTTPClientError, IncompleteReadError, ResponseParserError)
        address = f"{self.address}/{name}" if name else self.address
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            for_all = code in _REFUSED or status in (401, 403)
            may_pass = not for_all and (
                status >= 500 or status in (408, 429) or code in {"BadDigest", "RequestTimeout"}
            )
            detail = error.response.get("Error", {}).get("Message") or ""
            said = clean_line(f"{code}: {detail}" if detail and detail != code else code, _LONGEST)
            raise StoreError(f"{address}: {what}: {said}{_fix(code, status)}", for_all, may_pass) from error
        except passing as error:
            raise StoreError(f"{address}: {what}: {first_line(error)} (check the network)", may_pass=True) from error
        except BotoCoreError as error:
            raise StoreError(
                f"{address}: {what}: {first_line(error)} (correct the AWS_ variables and ~/.aws)", for_all=True
            ) from error


def _fix(code: str, status: int) -> str:
    if code in {"NoSuchBucket"}:
        return " (make the bucket first, or correct OUT_DIR)"
    if code in _REFUSED or status in (401, 403):
        return " (needed: the rights to list, read, write and delete objects there; check the AWS_ variables)"
    return ""


def _cut_short() -> tuple[type[Exception], ...]:
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError


def _code(error: StoreError) -> str:
    """Return the code of the answer behind an error; empty if there was none."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _md5(content: bytes) -> str:
    return b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
