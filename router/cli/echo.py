"""`sendrs echo`: whether a DIMSE peer is there and takes us (C-ECHO)."""

from __future__ import annotations

import anyio

from router.cli.console import print_json, print_lines
from router.cli.exits import ExitCode
from router.cli.nodes import Node, NodeArgument, TitleOption, fail, find_node
from router.cli.options import ConfigOption, JsonOption, TimeoutOption
from router.delivery.verification import Echo, verify
from router.errors import DeliveryError


def echo(
    node: NodeArgument,
    config: ConfigOption,
    aet: TitleOption = "",
    timeout: TimeoutOption = "",
    as_json: JsonOption = False,
) -> int:
    """Ask a DIMSE peer whether it is there and takes us (C-ECHO).

    For example: sendrs echo PACS@10.1.2.3:104. Exit code 0: it answered. 69: it did not, and why.
    """
    peer = find_node(node, config, aet=aet, timeout=timeout)
    try:
        answer = anyio.run(verify, peer.dimse)
    except DeliveryError as error:
        if as_json:
            print_json(_facts(peer, None, error.problem))
        return fail(peer, error)
    if as_json:
        print_json(_facts(peer, answer, ""))
        return ExitCode.OK
    times = f"associated in {_show(answer.associated_s)}"
    if answer.answered_s is None:
        print_lines(f"{peer} is there: {times}", "It takes our association, but not Verification (C-ECHO).")
    else:
        print_lines(f"{peer} answered: {times}, C-ECHO in {_show(answer.answered_s)}")
    return ExitCode.OK


def _show(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def _facts(peer: Node, answer: Echo | None, problem: str) -> dict[str, object]:
    return {
        "node": peer.name,
        "ae_title": peer.dimse.ae_title,
        "host": peer.dimse.host,
        "port": peer.dimse.port,
        "calling_ae_title": peer.dimse.calling_aet,
        "there": answer is not None,
        "answered": answer is not None and answer.answered_s is not None,
        "associated_s": answer.associated_s if answer else None,
        "answered_s": answer.answered_s if answer else None,
        "problem": problem,
    }
