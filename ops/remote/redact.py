"""Takes secrets out of settings, logs and answers before they leave a host.

A value is taken for a secret by the name that it stands behind, by its own form (private keys,
password hashes, credentials in URLs and headers), or because it is one of the given ones. Where in
doubt it goes: a support bundle can do without a value, and a secret cannot be called back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

REMOVED = "<removed>"
# Shorter ones are words that occur everywhere.
SHORTEST_KNOWN = 6

_WORD = (
    r"passw(?:or)?d|passwd|passphrase|passcode|pwd|secret|token|credential|jaas|authorization"
    r"|api[_.-]?key|api[_.-]?url|access[_.-]?key|private[_.-]?key|account[_.-]?key|keystore\.key"
    r"|webhook[_.-]?url|basic[_.-]?auth|cookie|\buser_\w+(?==)"
)
# What stands behind such a name says where the secret is, and is none.
_PLACE = re.compile(r"(?:file|path|location|dir)$", re.IGNORECASE)
_KEY = rf"[\w.\-/]*(?:{_WORD})[\w.\-]*"
# Most lines have none of these, and the patterns below are slow.
_ANY = re.compile(_WORD, re.IGNORECASE)

# A setting on a line of its own, whose value goes on to the end of the line, or below it.
_SETTING = re.compile(
    rf"^(?P<indent>\s*(?:- +)?)(?P<before>(?:export +)?[\"']?)(?P<key>{_KEY})"
    r"(?P<sign>[\"']?\s*[:=]\s*)(?P<value>.*)$",
    re.IGNORECASE,
)
# Others stand in the middle of something: a command line, JSON on one line, a log.
_QUOTED_WHOLE = re.compile(rf"(?P<quote>[\"'])(?P<key>{_KEY})=(?:(?!(?P=quote)).)*", re.IGNORECASE)
_INSIDE = re.compile(
    rf"(?P<key>{_KEY})(?P<sign>\\?[\"']?\s*[:=]\s*)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|\\\"(?:[^\"\\]|\\[^\"])*\\\"|'[^']*'|[^\s,;\"'}\]&<]+)",
    re.IGNORECASE,
)
_FLAG = re.compile(
    rf"(?P<key>(?<![\w-])--?{_KEY})\s+(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"'-]\S*)", re.IGNORECASE
)
_ELEMENT = re.compile(rf"<(?P<key>{_KEY})>[^<]+", re.IGNORECASE)
_FORMS = (
    (
        re.compile(
            r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        REMOVED,
    ),
    (re.compile(r"(\w://[^\s:/@]*:)[^\s/@]+@"), rf"\1{REMOVED}@"),
    (re.compile(r"(?i)\b(bearer|basic) +[\w+/=.~-]{8,}"), rf"\1 {REMOVED}"),
    (re.compile(r"\$(?:1|2[abxy]|5|6|y|argon2\w*)\$[\w./+=,$]{20,}"), REMOVED),
    (re.compile(r"(hooks\.slack\.com/services)/[^\s\"']+"), rf"\1/{REMOVED}"),
)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """The text without secrets. known: secrets by value, such as those of the inventory."""
    for secret in sorted(set(known), key=len, reverse=True):
        if len(secret) >= SHORTEST_KNOWN:
            text = text.replace(secret, REMOVED)
    for form, without in _FORMS:
        text = form.sub(without, text)
    return "\n".join(_lines(text.split("\n")))


def _lines(lines: Iterable[str]) -> Iterable[str]:
    """The lines, those left out that continue a secret begun above."""
    indent: int | None = None
    continued = False
    for line in lines:
        if continued:
            continued = line.endswith("\\")
            continue
        if indent is not None and _belongs(line, indent):
            continue
        indent = None
        if not _ANY.search(line):
            yield line
            continue
        setting = _SETTING.match(line)
        if setting is None or _PLACE.search(setting["key"]):
            yield _within(line)
            continue
        value = setting["value"]
        continued = value.endswith("\\")
        if re.fullmatch(r"[|>][-+\d]*|\[|\{|", value.strip()):
            indent = len(setting["indent"].replace("- ", "  "))
        closing = value[-1] if value[-1:] == "," else ""
        yield line[: setting.start("value")] + REMOVED + closing


def _belongs(line: str, indent: int) -> bool:
    """Whether a line is part of the value of the setting above, by YAML's and JSON's layout."""
    stripped = line.lstrip()
    deeper = len(line) - len(stripped) > indent
    return not stripped or deeper or stripped.startswith("- ")


def _within(line: str) -> str:
    """A line without the secrets that stand somewhere in it."""

    def without(match: re.Match[str], text: str) -> str:
        return match[0] if _PLACE.search(match["key"]) else text

    line = _QUOTED_WHOLE.sub(lambda m: without(m, f"{m['quote']}{m['key']}={REMOVED}"), line)
    line = _INSIDE.sub(lambda m: without(m, f"{m['key']}{m['sign']}{REMOVED}"), line)
    line = _FLAG.sub(lambda m: without(m, f"{m['key']} {REMOVED}"), line)
    return _ELEMENT.sub(lambda m: without(m, f"<{m['key']}>{REMOVED}"), line)
