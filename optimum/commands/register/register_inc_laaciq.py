"""Makes `optimum-cli export openvino-laaciq` known to optimum, which imports every file of this namespace.

Every call of optimum-cli comes through here, so nothing heavy is imported before the command runs.  There must be no
`__init__.py` beside this file: other packages put theirs into the same namespace.
"""

from __future__ import annotations

from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from inc_laaciq import cli_export


class LaaciqExportCommand(BaseOptimumCLICommand):
    """The command; what it does is in `inc_laaciq.cli_export`."""

    COMMAND = CommandInfo(name="openvino-laaciq", help=cli_export.HELP)

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the options."""
        cli_export.add_options(parser)

    def run(self) -> None:
        """Carry it out, and exit."""
        cli_export.carry_out(self.args)


REGISTER_COMMANDS = [(LaaciqExportCommand, ExportCommand)]
