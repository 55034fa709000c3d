"""The rule folder to a rule book: all of it, or all that is wrong with it. The only module here that touches files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from router.config.document import read_document
from router.errors import ConfigError, ConfigErrors
from router.rules.book import RuleBook
from router.rules.findings import Findings
from router.rules.language import RuleText, read_rules
from router.rules.rule import Rule


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
        document = read_document(file)
    except ConfigErrors as unreadable:
        findings = Findings(str(file), "")
        findings.errors += unreadable.errors
        return findings, []
    findings = Findings(str(file), document.text)
    return findings, read_rules(document.table, destinations, findings)


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
