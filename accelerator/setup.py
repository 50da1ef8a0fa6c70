"""Builds the extension."""

from pathlib import Path

from setuptools import Extension, setup

headers = sorted(path.name for path in Path(__file__).parent.glob("*.h"))
setup(ext_modules=[Extension("crawlo_otel_leaks_accelerator", ["swift.c"], depends=headers)], py_modules=[])
