"""The stand-in of the MetaTrader5 module against the real wheel: names, values, conventions, fields, texts."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mt5_terminal.module import MetaTrader5 as stand_in
from tests.mt5_terminal.module.MetaTrader5 import arguments, core
from tests.mt5_terminal.module.MetaTrader5.layouts import LAYOUTS
from tests.mt5_terminal.wheel import METH_KEYWORDS, METH_NOARGS, METH_VARARGS, Wheel, read_wheel
from tests.support.patience import patient


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    folder = tmp_path_factory.mktemp("wheel")
    fetched = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--retries", "1"),
            *("--timeout", "10", "--platform", "win_amd64", "--python-version", "3.11", "--only-binary=:all:"),
            *("--dest", str(folder), "MetaTrader5"),
        ],
        capture_output=True,
        text=True,
        timeout=patient(120),
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if fetched.returncode or not wheels:
        pytest.skip(f"the package index gives no MetaTrader5 wheel: {fetched.stderr.strip()[-200:]}")
    return read_wheel(Path(wheels[0]))


def test_every_constant_has_its_name_and_value(wheel):
    ours = {name: value for name, value in vars(stand_in).items() if name.isupper() and name[0] != "_"}
    assert ours == wheel.constants
    assert len(ours) > 200


def test_every_function_is_there_and_no_other(wheel):
    ours = set(core.__all__) | set(wheel.helpers)
    assert ours == set(wheel.methods) | set(wheel.helpers)
    for name, parameters in wheel.helpers.items():
        assert list(inspect.signature(getattr(stand_in, name)).parameters) == parameters, name


def test_calling_conventions_are_those_of_the_method_table(wheel):
    """Keywords where METH_KEYWORDS is set, none elsewhere, no argument at all with METH_NOARGS."""
    for name, flags in wheel.methods.items():
        kinds = {each.kind for each in inspect.signature(getattr(stand_in, name)).parameters.values()}
        expected = {
            METH_NOARGS: set(),
            METH_VARARGS: {inspect.Parameter.VAR_POSITIONAL},
            METH_VARARGS | METH_KEYWORDS: {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD},
        }[flags]
        assert kinds == expected, name


def test_structures_have_the_fields_of_the_binary_in_order(wheel):
    assert set(wheel.structs) == set(LAYOUTS)
    for name, fields in wheel.structs.items():
        assert [field for field, _ in LAYOUTS[name]] == fields, name
        assert stand_in.structs.TYPES[name].__match_args__ == tuple(fields)


def test_texts_of_last_error_are_in_the_binary(wheel):
    keywords = ("login", "password", "server", "timeout", "path", "ticket", "group")
    texts = [
        "Success",
        "Terminal: Call failed",
        "Terminal: Invalid params",
        "Terminal: Not found",
        "Terminal: Authorization failed",
        "Auto-Trading using Python API disabled in Terminal",
        "IPC send failed",
        "IPC recv failed",
        "IPC timeout",
        "No IPC connection",
        "Invalid arguments",
        "Invalid number of arguments",
        "Invalid 1st unnamed argument",
        "Unnamed arguments not allowed",
        *(f'Invalid "{name}" argument' for name in (*arguments.REQUEST_FIELDS, *keywords)),
    ]
    missing = [text for text in texts if text.encode() + b"\0" not in wheel.binary]
    assert not missing
    for text in ("Process create failed '", "Pipe server didn't answer in %u sec", "MetaTrader 5 x64 not found"):
        assert text.encode("utf-16-le") in wheel.binary, text


def test_the_request_is_read_in_the_order_of_its_structure(wheel):
    assert list(arguments.REQUEST_FIELDS) == wheel.structs["TradeRequest"]


def test_the_interpreter_is_never_released(wheel):
    """The page's reason for a process of its own: no function that gives up the interpreter is imported."""
    for name in (b"PyEval_SaveThread", b"PyEval_RestoreThread", b"PyGILState_Ensure", b"PyGILState_Release"):
        assert name not in wheel.binary
    assert b"PyArg_ParseTuple" in wheel.binary, "so the import table is readable"


def test_version(wheel):
    assert wheel.version.startswith("5.0.")
    assert stand_in.__version__.split(".")[:2] == wheel.version.split(".")[:2]
