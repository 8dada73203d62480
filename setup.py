"""Puts the pages of docs/ into the installed package, where `python -m tape docs` finds them; all else is in setup.cfg."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

PAGES = pathlib.Path(__file__).parent / "docs"


class BuildWithPages(build_py):
    """Build, and copy the pages beside the code, unless the code stays where they are (an editable installation)."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            target = pathlib.Path(self.build_lib) / "tape" / "docs"
            shutil.copytree(PAGES, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPages})
