"""Every command's help has an example, and the example is one: options and arguments that the command has."""

from __future__ import annotations

import re

import pytest

from router.cli.tree import CommandHelp, command_help


@pytest.mark.parametrize("command", command_help(), ids=lambda command: command.name)
def test_the_help_of_a_command_has_an_example_of_it(command: CommandHelp) -> None:
    examples = re.findall(r"For example: (sendrs [^\n]*)", "\n".join(command.text))
    assert examples, command.name
    words = examples[0].split()
    assert words[1] == command.name
    known = {name for option in command.parameters for name in option.names}
    assert {word for word in words if re.match(r"-{1,2}[a-z]", word)} <= known
