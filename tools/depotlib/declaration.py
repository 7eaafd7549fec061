"""depot.yml, what the depot is to hold, and depot.lock, the digests of what Maven resolves."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from depotlib.sources import KINDS, SHA512, Source, UrlSource
from depotlib.work import DepotError, write_whole


class DeclarationError(DepotError):
    """What was asked for cannot be; the text names file and line."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One artifact of depot.yml."""

    name: str
    version: str
    licence: str
    group: str
    optional: bool  # a plant does without it where no source can be reached
    sources: tuple[Source, ...]  # in order of preference


class Lock:
    """depot.lock: one `<sha512>  <artifact>/<file>` a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[str, str] = {}
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
            digest, _, name = line.partition("  ")
            if not SHA512.fullmatch(digest) or "/" not in name:
                raise DeclarationError(f"{path}:{number}: expected '<sha512>  <artifact>/<file>'")
            self._digests[name] = digest

    def of(self, artifact: str) -> dict[str, str]:
        """{file name: sha512} of one artifact."""
        prefix = f"{artifact}/"
        return {
            name.removeprefix(prefix): digest
            for name, digest in self._digests.items()
            if name.startswith(prefix)
        }

    def replace(self, artifact: str, digests: Mapping[str, str]) -> None:
        """Write the file with other digests for one artifact."""
        for name in self.of(artifact):
            del self._digests[f"{artifact}/{name}"]
        self._digests |= {f"{artifact}/{name}": digest for name, digest in digests.items()}
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self._digests.items()))
        write_whole(self.path, "".join(lines))


def load(path: Path) -> dict[str, Artifact]:
    """Artifacts of a depot.yml by name, in its order.

    Raises DeclarationError with the line of the first thing that is wrong.
    """
    try:
        document = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise DeclarationError(f"{path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DeclarationError(f"{path}:{line}: not YAML: {error.problem}") from None
    if document is None:
        raise DeclarationError(f"{path}:1: is empty; expected 'artifacts:'")
    return _Reader(path).document(document)


class _Reader:
    """Turns YAML nodes into Artifacts: nodes, unlike the plain data, know their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, node: yaml.Node, text: str) -> DeclarationError:
        return DeclarationError(f"{self.path}:{node.start_mark.line + 1}: {text}")

    def document(self, node: yaml.Node) -> dict[str, Artifact]:
        top = self.mapping(node, "the file")
        self.keys(node, top, "the file", required={"artifacts"})
        given = self.mapping(top["artifacts"], "artifacts")
        artifacts = {name: self.artifact(name, child) for name, child in given.items()}
        for name, artifact in artifacts.items():
            for needed in {need for source in artifact.sources for need in source.needs}:
                if needed not in artifacts:
                    raise self.wrong(given[name], f"{name}: needs '{needed}', which is not here")
        return artifacts

    def artifact(self, name: str, node: yaml.Node) -> Artifact:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise self.wrong(node, f"{name}: a name has lower-case letters, digits and '-' only")
        given = self.mapping(node, name)
        self.keys(
            node,
            given,
            name,
            required={"version", "licence", "sources"},
            optional={"group", "optional"},
        )
        version = self.text(given["version"], f"{name}: version")
        sources = self.sequence(given["sources"], f"{name}: sources")
        return Artifact(
            name=name,
            version=version,
            licence=self.text(given["licence"], f"{name}: licence"),
            group=self.text(given["group"], f"{name}: group") if "group" in given else "plant",
            optional="optional" in given and self.truth(given["optional"], f"{name}: optional"),
            sources=tuple(
                self.source(child, f"{name}: sources[{index}]", version)
                for index, child in enumerate(sources)
            ),
        )

    def source(self, node: yaml.Node, where: str, version: str) -> Source:
        given = self.mapping(node, where)
        if "kind" not in given:
            raise self.wrong(node, f"{where}: needs 'kind', one of: {', '.join(KINDS)}")
        kind_node = given.pop("kind")
        kind = self.text(kind_node, f"{where}: kind")
        if kind not in KINDS:
            raise self.wrong(kind_node, f"{where}: no kind '{kind}'; known: {', '.join(KINDS)}")
        cls = KINDS[kind]
        fields = {field.name: field for field in dataclasses.fields(cls)}
        required = {
            name
            for name, field in fields.items()
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        self.keys(node, given, where, required=required, optional=fields.keys() - required)
        types = get_type_hints(cls)
        values: dict[str, Any] = {
            key: self.value(types[key], child, f"{where}: {key}", version)
            for key, child in given.items()
        }
        source = cls(**values)
        if source.sha512 and not SHA512.fullmatch(source.sha512):
            raise self.wrong(given["sha512"], f"{where}: sha512: expected 128 hex digits")
        if isinstance(source, UrlSource):
            self.check_url(node, source, where)
        return source

    def check_url(self, node: yaml.Node, source: UrlSource, where: str) -> None:
        if not source.url.startswith(("https://", "http://")):
            raise self.wrong(node, f"{where}: url: expected https:// or http://")
        if not (source.sha512 or source.sha512_url or source.sha256_url):
            raise self.wrong(node, f"{where}: needs 'sha512', 'sha512_url' or 'sha256_url'")
        for key in ("sha512_url", "sha256_url"):
            address: str = getattr(source, key)
            if address and not address.startswith("https://"):
                raise self.wrong(node, f"{where}: {key}: a digest can be trusted over https only")

    def value(self, kind: object, node: yaml.Node, where: str, version: str) -> object:
        """A field's value; `kind` is the type that the source's class gives it."""
        if kind is bool:
            return self.truth(node, where)
        if get_origin(kind) is tuple:
            return tuple(_expand(self.text(n, where), version) for n in self.sequence(node, where))
        if get_args(kind) == (str, str):
            return {
                _expand(key, version): _expand(self.text(child, f"{where}: {key}"), version)
                for key, child in self.mapping(node, where).items()
            }
        return _expand(self.text(node, where), version)

    def truth(self, node: yaml.Node, where: str) -> bool:
        if node.tag != "tag:yaml.org,2002:bool":
            raise self.wrong(node, f"{where}: expected true or false")
        return str(node.value).lower() == "true"

    def text(self, node: yaml.Node, where: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            raise self.wrong(node, f"{where}: expected text (in quotes, if it looks like a number)")
        if not node.value:
            raise self.wrong(node, f"{where}: is empty")
        return str(node.value)

    def sequence(self, node: yaml.Node, where: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.wrong(node, f"{where}: expected a list with at least one entry")
        return list(node.value)

    def mapping(self, node: yaml.Node, where: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, f"{where}: expected keys with values")
        result: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.text(key, where)
            if name in result:
                raise self.wrong(key, f"{where}: '{name}' is there twice")
            result[name] = value
        return result

    def keys(
        self,
        node: yaml.Node,
        given: Mapping[str, yaml.Node],
        where: str,
        *,
        required: set[str],
        optional: set[str] | None = None,
    ) -> None:
        """Raises DeclarationError for a key that nobody reads, or one that is missing."""
        known = required | (optional or set())
        for key, value in given.items():
            if key not in known:
                names = ", ".join(sorted(known))
                raise self.wrong(value, f"{where}: no key '{key}'; known: {names}")
        for key in sorted(required - given.keys()):
            raise self.wrong(node, f"{where}: needs '{key}'")


def _expand(text: str, version: str) -> str:
    return text.replace("{version}", version)
