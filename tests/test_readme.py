"""The README's Python blocks run as written, in order, and print what stands below them."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"


def blocks() -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"```(\w*)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_python_blocks_run_and_print_what_the_readme_shows(capsys):
    namespace, printed = {}, 0
    found = blocks()
    for (language, text), (_, following) in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        exec(compile(text, "example.py", "exec"), namespace)
        output = capsys.readouterr().out
        if output:
            # The list's text names the file and line of the example.
            assert re.sub(r"example.py:\d+", "example.py:1", output).strip() == following.strip()
            printed += 1
    assert printed


def test_the_two_commands_stand_where_tools_look_for_them():
    text = README.read_text(encoding="utf-8")
    for part in ("run", "test"):
        assert re.search(rf"<!-- {part} -->\n```sh\n.+?```", text, flags=re.DOTALL)
