"""The rule folder to a rule book: all of it, or all that is wrong with it. The only module here that reads files."""

from __future__ import annotations

import codecs
import errno
from collections.abc import Collection
from pathlib import Path

from router.errors import ConfigError, ConfigErrors
from router.rules.book import RuleBook
from router.rules.findings import Findings
from router.rules.language import RuleText, read_rules
from router.rules.rule import Rule

MAX_FILE_BYTES = 1024 * 1024
"""A rule file beyond 1 MiB is not one that a person wrote."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def load_rules(folder: Path, destinations: Collection[str]) -> RuleBook:
    """Read all `*.toml` in `folder`, in the order of their names. `destinations` are the names that rules may send to.

    Raises ConfigErrors with all that is wrong; then nothing is loaded.
    """
    errors: list[ConfigError] = []
    warnings: list[ConfigError] = []
    texts: list[RuleText] = []
    files = _files(folder)
    for file in files:
        findings, found = _read_file(file, destinations)
        errors += sorted(findings.errors, key=lambda error: error.line or 0)
        warnings += findings.warnings
        texts += found
    errors += _repeated(texts)
    if errors:
        raise ConfigErrors(errors)
    rules = [text.rule for text in texts]
    if not rules:
        problem = "no rule in any *.toml here: what arrives is kept and listed as unrouted, and goes nowhere"
        warnings.append(ConfigError(str(folder), "", problem))
    return RuleBook(rules, [*warnings, *_unreachable(rules)])


def _files(folder: Path) -> list[Path]:
    try:
        files = [file for file in folder.iterdir() if file.suffix == ".toml" and not file.is_dir()]
    except FileNotFoundError:
        hint = f"create it (mkdir -p {folder}) and put rule files named *.toml into it, or correct [rules] path"
        raise ConfigErrors([ConfigError(str(folder), "rules.path", "there is no such folder", hint=hint)]) from None
    except NotADirectoryError:
        problem = "is a file; rules stand in a folder"
        raise ConfigErrors([ConfigError(str(folder), "rules.path", problem, hint="name the folder")]) from None
    except OSError as error:
        problem = f"the folder cannot be read: {error.strerror}"
        raise ConfigErrors([ConfigError(str(folder), "rules.path", problem)]) from None
    return sorted(files, key=lambda file: file.name)


def _read_file(file: Path, destinations: Collection[str]) -> tuple[Findings, list[RuleText]]:
    try:
        raw = _read_bytes(file)
    except OSError as error:
        findings = Findings(str(file), "")
        findings.not_toml(f"cannot be read: {error.strerror}", None)
        return findings, []
    text, problem, line = _decode(raw)
    findings = Findings(str(file), text)
    if problem:
        findings.not_toml(problem, line)
        return findings, []
    return findings, read_rules(text, destinations, findings)


def _read_bytes(file: Path) -> bytes:
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "it is neither a file nor a folder")
    with file.open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _decode(raw: bytes) -> tuple[str, str, int | None]:
    """Give the text, or what keeps it from being one, and the line."""
    if len(raw) > MAX_FILE_BYTES:
        return "", f"is longer than {MAX_FILE_BYTES} bytes", None
    if raw.startswith(_UTF16):
        return "", "is UTF-16; save it as UTF-8", None
    if b"\0" in raw:
        return (
            "",
            "has a NUL byte, so that it is no text (or UTF-16); save it as UTF-8",
            raw.count(b"\n", 0, raw.index(0)) + 1,
        )
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n"), "", None
    except UnicodeDecodeError as error:
        return "", "is not UTF-8; save it as UTF-8", raw.count(b"\n", 0, error.start) + 1


def _repeated(texts: list[RuleText]) -> list[ConfigError]:
    """Find names given twice, and rules that say the same (B94)."""
    errors = []
    by_name: dict[str, Rule] = {}
    by_saying: dict[str, Rule] = {}
    for text in texts:
        rule = text.rule
        first = by_name.setdefault(rule.name, rule)
        same = by_saying.setdefault(text.saying, rule)
        if first is not rule:
            problem = f"another rule has this name ({first.file}:{first.line})"
            errors.append(ConfigError(rule.file, f'rule "{rule.name}"', problem, line=rule.line))
        elif same is not rule:
            problem = f'says the same as rule "{same.name}" ({same.file}:{same.line})'
            errors.append(ConfigError(rule.file, f'rule "{rule.name}"', problem, hint="remove one", line=rule.line))
    return errors


def _unreachable(rules: list[Rule]) -> list[ConfigError]:
    """Find the rules after one that takes everything and is final."""
    for index, rule in enumerate(rules):
        if rule.final and rule.asks_nothing():
            problem = f'is never reached: rule "{rule.name}" ({rule.file}:{rule.line}) takes everything and is final'
            return [
                ConfigError(late.file, f'rule "{late.name}"', problem, line=late.line) for late in rules[index + 1 :]
            ]
    return []
