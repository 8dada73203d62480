"""Puts the pages of docs/ and the changes into the package, for `python -m tape docs`; all else is in setup.cfg."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent


class BuildWithPages(build_py):
    """Build, and copy the pages beside the code, unless the code stays where they are (an editable installation)."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            target = pathlib.Path(self.build_lib) / "tape" / "docs"
            shutil.copytree(ROOT / "docs", target, dirs_exist_ok=True)
            shutil.copy(ROOT / "CHANGELOG.md", target)


setup(cmdclass={"build_py": BuildWithPages})
