"""The bar and the text beside it."""

from __future__ import annotations

import io

from rich.console import Console

from medseg.cli.console import Bar, results


def test_results_go_to_standard_output_also_while_a_bar_is_on_the_terminal(capsys):
    terminal = io.StringIO()

    with Bar(Console(file=terminal, force_terminal=True, width=80), total=2) as bar:
        bar.start("first").update(0.5, "Window 3 of 6")
        with bar.aside():
            results().print("Written: x")
        bar.start("[second]").update(0.6)

    assert capsys.readouterr().out == "Written: x\n"
    assert "1/2 first: Window 3 of 6" in terminal.getvalue()
    assert "2/2 [second]" in terminal.getvalue()
    assert "Written" not in terminal.getvalue()


def test_a_log_file_gets_no_bar():
    log = io.StringIO()

    with Bar(Console(file=log)) as bar:
        bar.start("scan").update(0.5, "Window 3 of 6")

    assert log.getvalue() == ""
