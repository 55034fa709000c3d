"""The manual pages, made of the help of the commands: sendrs(1), and sendrs-NAME(1) for each.

`python packaging/man.py DIR` writes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from router.cli.tree import CommandHelp, command_help

FILES = (
    ("/etc/sendrs/router.toml", "The configuration, when there is no router.toml in the current folder."),
    ("/etc/sendrs/rules/", "The rules; every *.toml file in it is read, in the order of their names."),
    ("/var/lib/sendrs/", "What was received and is to be sent, and the journal of it."),
)
EXITS = (
    ("0", "It is done."),
    ("1", "It is done, and found something that a person should look at."),
    ("2", "The command line is wrong."),
    ("69", "A peer refused, or could not be reached."),
    ("75", "Not now: try again later."),
    ("78", "The configuration is wrong. A service manager should not start it anew."),
)


def man_pages(version: str) -> dict[str, str]:
    """Give the pages by name, in the language of man(7)."""
    commands = command_help()
    pages = {f"sendrs-{one.name}": _command_page(one, version) for one in commands}
    return {"sendrs": _overview(commands, version), **pages}


def _overview(commands: list[CommandHelp], version: str) -> str:
    lines = [
        _title("sendrs", version),
        r".SH NAME",
        r"sendrs \- a DICOM router that never loses an image",
        ".SH SYNOPSIS",
        ".B sendrs",
        r"\fICOMMAND\fR [\fIOPTIONS\fR]",
        ".SH DESCRIPTION",
        "Takes DICOM instances in by C-STORE and STOW-RS, keeps them safely, decides by rules where they go, and sends "
        "them on by C-STORE, STOW-RS and SEND-RS. Is searched and read by DICOMweb and DIMSE.",
        ".SH COMMANDS",
        *(_item(rf"\fBsendrs-{_escaped(one.name)}\fR(1)", one.text[0]) for one in commands),
        ".SH FILES",
        *(_item(rf"\fI{_escaped(path)}\fR", text) for path, text in FILES),
        ".SH EXIT STATUS",
        *(_item(rf"\fB{code}\fR", text) for code, text in EXITS),
        ".SH SEE ALSO",
        r"/usr/share/doc/sendrs/, \fBdcmsend\fR(1), \fBsystemctl\fR(1)",
    ]
    return "\n".join(lines) + "\n"


def _command_page(command: CommandHelp, version: str) -> str:
    name = f"sendrs-{command.name}"
    lines = [
        _title(name, version),
        ".SH NAME",
        rf"{_escaped(name)} \- {_escaped(_lower_first(command.text[0].rstrip('.')))}",
        ".SH SYNOPSIS",
        rf".B sendrs {_escaped(command.name)}",
        rf"[\fIOPTIONS\fR] \fI{_escaped(command.arguments)}\fR" if command.arguments else r"[\fIOPTIONS\fR]",
        ".SH DESCRIPTION",
        "\n.PP\n".join(map(_escaped, command.text)),
        ".SH OPTIONS",
        *(_item(rf"\fB{_escaped(one.shown)}\fR", one.help) for one in command.parameters),
        ".SH SEE ALSO",
        r"\fBsendrs\fR(1)",
    ]
    return "\n".join(lines) + "\n"


def _title(name: str, version: str) -> str:
    return f'.TH {name.upper()} 1 "" "sendrs {version}" "sendrs"'


def _item(head: str, text: str) -> str:
    return f".TP\n{head}\n{_escaped(text)}"


def _escaped(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for page, source in man_pages("0").items():
        (folder / f"{page}.1").write_text(source)
