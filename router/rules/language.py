"""One rule file's text to rules. Everything in it is data: nothing is evaluated, looked up or run (B98)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from router.config.locate import nearest
from router.dicom.envelope import Protocol
from router.dicom.matcher_text import wildcard_test
from router.rules.asking import read_conditions
from router.rules.conditions import Condition
from router.rules.findings import Findings, Place
from router.rules.rule import Rule, When
from router.rules.sender import Network, Sender

RULE_KEYS = ("name", "when", "from", "match", "unless", "send", "final")
FROM_KEYS = ("calling_aet", "called_aet", "address", "protocol")
WHENS: tuple[When, ...] = get_args(When)
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

MAX_NAME_CHARACTERS = 100
"""A rule's name is shown in lists and journalled with each request that it makes."""
MAX_AET_CHARACTERS = 16
MAX_NESTING = 24
"""Tables and lists within each other. The deepest that a rule can mean is a path through 16 sequences."""


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule with what its file says, for comparing it with others."""

    rule: Rule
    saying: str
    """All but the name, so that two rules that say the same are equal here."""


def read_rules(document: Mapping[str, Any], destinations: Collection[str], findings: Findings) -> list[RuleText]:
    """Compile the rules of one file, those that have no error; what is wrong goes to `findings`."""
    if _is_deeper(document, MAX_NESTING):
        findings.error((), "lists or tables are nested too deeply to be a rule")
        return []
    for key in document:
        if key != "rule":
            near = 'did you mean "[[rule]]"?' if nearest(key, ["rule"]) else ""
            findings.error((key,), "unknown table or key", allowed="[[rule]]", hint=near)
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        findings.error(("rule",), "rules are a list of tables", hint="write [[rule]] with two brackets on each side")
        return []
    rules = []
    for index, table in enumerate(tables):
        before = len(findings.errors)
        rule = _read_rule(table, ("rule", index), destinations, findings)
        if len(findings.errors) == before:
            rules.append(RuleText(rule, _saying(table)))
    return rules


def _is_deeper(document: object, levels: int) -> bool:
    layer = [document]
    for _ in range(levels):
        inner = [
            value.values() if isinstance(value, dict) else value for value in layer if isinstance(value, dict | list)
        ]
        layer = [one for values in inner for one in values]
    return bool(layer)


def _read_rule(table: Mapping[str, Any], place: Place, destinations: Collection[str], findings: Findings) -> Rule:
    """Compile one `[[rule]]`; of no use if it adds to the errors."""
    name = _name(table, place, findings)
    for key in table:
        if key not in RULE_KEYS:
            near = nearest(key, RULE_KEYS)
            hint = f'did you mean "{near}"?' if near else ""
            findings.error((*place, key), "unknown key", allowed=", ".join(RULE_KEYS), hint=hint)
    when = table.get("when", "instance")
    if when not in WHENS:
        findings.error((*place, "when"), f"{when!r:.80} is none of the units", allowed=", ".join(WHENS))
    final = table.get("final", False)
    if not isinstance(final, bool):
        findings.error((*place, "final"), "wrong type", allowed="true or false")
    unless = _conditions(table, "unless", place, findings)
    _check_not_self_defeating(table, place, findings)
    return Rule(
        name=name,
        when=when,
        sender=_sender(table.get("from", {}), (*place, "from"), findings),
        match=_conditions(table, "match", place, findings),
        unless=unless,
        send=_destinations(table, place, destinations, findings),
        final=final,
        file=findings.file,
        line=findings.line(place),
    )


def _name(table: Mapping[str, Any], place: Place, findings: Findings) -> str:
    name = table.get("name")
    if name is None:
        findings.error(place, "has no name", hint='add name = "…": lists and logs call the rule by it')
        return ""
    if not isinstance(name, str) or not name.strip():
        findings.error((*place, "name"), "wrong type", allowed="a text that is not empty")
        return ""
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        allowed = f"at most {MAX_NAME_CHARACTERS} characters on one line, no control characters"
        findings.error((*place, "name"), "cannot be shown in a list", allowed=allowed)
        return ""
    index = place[1]
    assert isinstance(index, int)
    findings.rule_names[index] = name
    return name


def _conditions(table: Mapping[str, Any], key: str, place: Place, findings: Findings) -> tuple[Condition, ...]:
    asked = table.get(key)
    if asked is None:
        return ()
    if not isinstance(asked, dict):
        findings.error((*place, key), "wrong type", allowed='a table: { Modality = "CT" }')
        return ()
    if not asked and key == "unless":
        findings.error((*place, key), "can never match: an empty unless holds for everything", hint="leave it out")
    return read_conditions(asked, (*place, key), findings)


def _check_not_self_defeating(table: Mapping[str, Any], place: Place, findings: Findings) -> None:
    match, unless = table.get("match", {}), table.get("unless", {})
    if not isinstance(match, dict) or not isinstance(unless, dict) or not unless:
        return
    if all(key in match and match[key] == value for key, value in unless.items()):
        findings.error((*place, "unless"), "can never match: all that unless asks, match asks too")


def _destinations(
    table: Mapping[str, Any], place: Place, destinations: Collection[str], findings: Findings
) -> tuple[str, ...]:
    place = (*place, "send")
    names = table.get("send")
    if not isinstance(names, list) or not names:
        problem = "is missing" if names is None else "is empty" if names == [] else "wrong type"
        hint = "the names stand in router.toml as [destinations.<name>]"
        findings.error(place, problem, allowed='a list of destination names: send = ["archive"]', hint=hint)
        return ()
    known = ", ".join(sorted(destinations)) or "none: router.toml has no [destinations.<name>]"
    for index, name in enumerate(names):
        if not isinstance(name, str):
            findings.error((*place, index), "wrong type", allowed="the name of a destination in quotes")
        elif name not in destinations:
            near = nearest(name, destinations)
            hint = f'did you mean "{near}"?' if near else ""
            findings.error((*place, index), f"unknown destination {name!r:.100}", allowed=known, hint=hint)
        elif name in names[:index]:
            findings.error((*place, index), f'"{name}" is there twice')
    return tuple(name for name in names if isinstance(name, str))


def _sender(table: Any, place: Place, findings: Findings) -> Sender:
    if not isinstance(table, dict):
        findings.error(place, "wrong type", allowed='a table: { calling_aet = "CT1" }')
        return Sender()
    for key in table:
        if key not in FROM_KEYS:
            near = nearest(key, FROM_KEYS)
            hint = f'did you mean "{near}"?' if near else ""
            findings.error((*place, key), "unknown key", allowed=", ".join(FROM_KEYS), hint=hint)
    sender = Sender(
        calling_aets=_aets(table, "calling_aet", place, findings),
        called_aets=_aets(table, "called_aet", place, findings),
        addresses=_networks(table, place, findings),
        protocols=_protocols(table, place, findings),
    )
    named = [*sender.calling_aets, *sender.called_aets]
    if sender.protocols == ("STOW-RS",) and named and not any(wildcard_test(aet)("") for aet in named):
        findings.error(place, "can never match: STOW-RS has no AE titles")
    return sender


def _one_or_more(table: Mapping[str, Any], key: str, place: Place, findings: Findings) -> list[tuple[str, Place]]:
    value = table.get(key)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str) and one.strip() for one in values):
        findings.error((*place, key), "wrong type", allowed="a text in quotes, or a list of them")
        return []
    return [(one.strip(), (*place, key)) for one in values]


def _aets(table: Mapping[str, Any], key: str, place: Place, findings: Findings) -> tuple[str, ...]:
    titles = []
    for title, here in _one_or_more(table, key, place, findings):
        if len(title.replace("*", "")) > MAX_AET_CHARACTERS or "\\" in title or not title.isascii():
            allowed = f"at most {MAX_AET_CHARACTERS} ASCII characters, no backslash"
            findings.error(here, f"can never match: {title!r:.80} is not an AE title", allowed=allowed)
        titles.append(title)
    return tuple(titles)


def _networks(table: Mapping[str, Any], place: Place, findings: Findings) -> tuple[Network, ...]:
    networks: list[Network] = []
    for text, here in _one_or_more(table, "address", place, findings):
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            allowed = 'an address or a network: "10.1.2.3", "10.1.0.0/16", "fd00::/8"'
            findings.error(here, f"{text!r:.80}: {error!s:.120}", allowed=allowed, hint=_network_hint(text))
    return tuple(networks)


def _network_hint(text: str) -> str:
    try:
        return f'did you mean "{ipaddress.ip_network(text, strict=False)}"?'
    except ValueError:
        return ""


def _protocols(table: Mapping[str, Any], place: Place, findings: Findings) -> tuple[str, ...]:
    protocols = []
    for text, here in _one_or_more(table, "protocol", place, findings):
        if text not in PROTOCOLS:
            near = nearest(text, PROTOCOLS)
            hint = f'did you mean "{near}"?' if near else ""
            findings.error(here, f"unknown protocol {text!r:.80}", allowed=", ".join(PROTOCOLS), hint=hint)
        protocols.append(text)
    return tuple(protocols)


def _saying(table: Mapping[str, Any]) -> str:
    def in_order(value: Any) -> Any:
        if isinstance(value, dict):
            return sorted((key, in_order(inner)) for key, inner in value.items())
        return [in_order(inner) for inner in value] if isinstance(value, list) else value

    return repr(in_order({key: value for key, value in table.items() if key != "name"}))
