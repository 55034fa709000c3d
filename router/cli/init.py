"""`sendrs init`: a commented configuration and a first rule, made of the shipped ones, for values given or asked for.

Never overwrites. What was written is loaded before it is called done.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from router.cli.configuration_text import Destination, Sender, Values, configuration_text, rule_text
from router.cli.console import print_lines
from router.cli.exits import ExitCode, show_config_error
from router.cli.options import HERE, INSTALLED
from router.config import forms
from router.config.forms import Unfit
from router.config.load import load_config
from router.errors import ConfigErrors
from router.rules import load_rules
from router.share import shipped

T = TypeVar("T")

FIRST_RULE = "10-everything-to-the-archive.toml"
TITLE, LISTEN = "SENDRS", "127.0.0.1:11112"
_NONE = "none"


def init(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where router.toml and rules/ are made.")
    ] = Path(),
    ae_title: Annotated[
        str | None, typer.Option("--ae-title", metavar="TITLE", help=f"Our AE title.  [default: {TITLE}]")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="ADDRESS:PORT", help=f"Where DICOM is taken in.  [default: {LISTEN}]"),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="FOLDER",
            help="Where instances and the journal are kept.  [default: state beside router.toml; /var/lib/sendrs for "
            "/etc/sendrs]",
        ),
    ] = None,
    destination: Annotated[
        str | None,
        typer.Option("--destination", metavar="WHERE", help="Where all goes: AET@host:port, or the URL of a service."),
    ] = None,
    sender: Annotated[
        list[str] | None,
        typer.Option(
            "--sender",
            metavar="AET@ADDRESS",
            help="Who may send, from an address or a network such as 10.1.0.0/16; give it again for more. "
            " [default: programs on this machine]",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: defaults for what is not given.")] = False,
) -> int:
    """Write a configuration and a first rule.

    What is not given is asked for at a terminal. Nothing is ever overwritten. For example: sendrs init --destination
    ARCHIVE@10.1.2.3:104 --sender CT1@10.1.0.0/16 --listen 0.0.0.0:11112
    """
    folder = folder.absolute()
    if (there := _there(folder)) is not None:
        return there
    ask = sys.stdin.isatty() and not yes
    installed = folder == INSTALLED.parent
    kept = "/var/lib/sendrs" if installed else "state"
    try:
        values = Values(
            ae_title=_value("--ae-title", ae_title, TITLE, "Our AE title", forms.ae_title, ask),
            listen=_value("--listen", listen, LISTEN, "Take DICOM in at (0.0.0.0:11112: everywhere)", _listen, ask),
            state=_value("--state", state, kept, "Keep instances in", _path, ask),
            destination=_value("--destination", destination, None, "Send all to (AET@host:port or URL)", _where, ask),
            senders=_senders(sender, ask),
        )
    except typer.Abort:
        print("\nsendrs init: nothing was written", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return _write(folder, values)


def _there(folder: Path) -> ExitCode | None:
    """Say what is in the way, and what to do."""
    config, rules = folder / HERE, folder / "rules"
    found = [path for path in (config, *sorted(rules.glob("*.toml"))) if path.exists() or path.is_symlink()]
    if not found:
        return None
    print(f"sendrs init: {found[0]} is there already, and is not overwritten", file=sys.stderr)
    if config.exists():
        print(f"    to see whether it is right: sendrs check --config {_quoted(config)}", file=sys.stderr)
    print("    for a new one beside it: sendrs init --folder FOLDER", file=sys.stderr)
    return ExitCode.FOUND_PROBLEMS


def _value(
    option: str, given: str | None, default: str | None, question: str, read: Callable[[str], T], ask: bool
) -> T:
    """Read what was given, or what a person types when asked, again until it is right. Raises typer.BadParameter."""
    if given is None and ask:
        return _prompt(question, default, read)
    text = default if given is None else given
    if text is None:
        _bad(option, Unfit("is missing, and there is nobody to ask", _WHERE_RULE))
    try:
        return read(text)
    except Unfit as unfit:
        _bad(option, unfit)


def _prompt(question: str, default: str | None, read: Callable[[str], T]) -> T:
    while True:
        text: str = typer.prompt(question, default=default)
        try:
            return read(text.strip())
        except Unfit as unfit:
            print_lines(f"  {_words(unfit)}")


def _senders(given: list[str] | None, ask: bool) -> tuple[Sender, ...]:
    senders = [_value("--sender", text, None, "", _sender, ask=False) for text in given or ()]
    if given is None and ask:
        question = f"Who may send (AET@address or network; {_NONE}: programs on this machine)"
        read: Callable[[str], Sender | None] = lambda text: None if text == _NONE else _sender(text)  # noqa: E731
        while (sender := _prompt(question, _NONE, read)) is not None:
            senders.append(sender)
            question = f"Who else may send ({_NONE}: nobody)"
    return tuple(dict.fromkeys(senders))


def _write(folder: Path, values: Values) -> ExitCode:
    """Write the files and load them; takes back what does not load."""
    config = folder / HERE
    rule = folder / "rules" / FIRST_RULE.replace("archive", values.destination.name)
    texts = {
        config: configuration_text(shipped("router.toml").read_text(encoding="utf-8"), values),
        rule: rule_text(shipped("rules").joinpath("examples", FIRST_RULE).read_text(encoding="utf-8"), values),
    }
    rule.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        loaded = load_config(config)
        load_rules(loaded.rules.path, loaded.destinations)
    except BaseException as error:
        for path in written:
            path.unlink()
        with suppress(OSError):
            rule.parent.rmdir()
        if not isinstance(error, ConfigErrors):
            raise
        print("sendrs init: these values do not go together, nothing was written", file=sys.stderr)
        for problem in error.errors:
            print(show_config_error(problem), file=sys.stderr)
        return ExitCode.USAGE
    _tell(config, rule, values)
    return ExitCode.OK


def _tell(config: Path, rule: Path, values: Values) -> None:
    named = f" --config {_quoted(config)}" if config.parent not in (Path.cwd(), INSTALLED.parent) else ""
    print_lines(f"Written: {config}", f"         {rule}")
    if not values.senders:
        print_lines(
            "Only programs on this machine may send. Others: [peers] at the end of router.toml; sendrs peers shows who "
            "was turned away."
        )
    elif "127." in values.listen or "localhost" in values.listen:
        print_lines(f"DICOM is taken in at {values.listen} only: others reach it when [dicom] listen says so.")
    print_lines(
        "",
        "Next:",
        f"  sendrs check{named}    is all right, and is the destination there?",
        f"  sendrs serve{named}    run it; systemctl start sendrs where it is a service",
        f"  sendrs status{named}   how it is",
    )


_WHERE_RULE = "AET@host:port (an IPv6 address in brackets), or an http(s) URL such as https://pacs.example/dicom-web"


def _where(text: str) -> Destination:
    if "://" in text:
        return Destination(url=forms.url(text))
    title, at, address = text.rpartition("@")
    if not at:
        raise Unfit(f"{forms.show(text)} has no @ and is no URL", _WHERE_RULE)
    where = forms.listen(address)
    if not where.port:
        raise Unfit("port 0 does not exist", "a port from 1 to 65535")
    return Destination(ae_title=forms.ae_title(title), host=where.host, port=where.port)


def _sender(text: str) -> Sender:
    title, at, address = text.rpartition("@")
    if not at:
        raise Unfit(f"{forms.show(text)} has no @", "AET@address, such as CT1@10.1.2.3 or CT1@10.1.0.0/16")
    return Sender(forms.ae_title(title), forms.network(address))


def _listen(text: str) -> str:
    forms.listen(text)
    return text


def _path(text: str) -> str:
    if not text or text.startswith("~") or not text.isprintable():
        raise Unfit(f"{forms.show(text)} is not the path of a folder", "a path without ~, on a local disk")
    return text


def _bad(option: str, unfit: Unfit) -> NoReturn:
    raise typer.BadParameter(_words(unfit), param_hint=f"'{option}'")


def _words(unfit: Unfit) -> str:
    parts = (unfit.problem, f"allowed: {unfit.allowed}" if unfit.allowed else "", unfit.hint)
    return "; ".join(part for part in parts if part)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
