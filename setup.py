"""An installed package brings the schemas of the tables, which in the repository lie beside the programs; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithSchemas(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "essential_sparsity/schemas/tables"
            shutil.copytree("workflow/schemas/tables", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithSchemas})
