"""Kernels on disk: a second process compiles nothing, and nothing that is wrong with a file or a folder is executed."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import pytest

import spyx
from spyx.engine import device
from spyx.engine.kernels import kernel_cache, object_code, xla_call
from spyx.engine.kernels.language import parse

pytestmark = pytest.mark.skipif(
    not device.has_compiler() or not sys.platform.startswith("linux"),
    reason="kernels are stored on Linux, with the extra cpu",
)

TRAINING = """
import hashlib, json, logging, sys
import jax, jax.numpy as jnp
import spyx
from spyx import nn
from spyx.engine.kernels import object_code

events = []
jax.monitoring.register_event_listener(lambda name, **more: events.append(name.rpartition("/")[2]))
logging.basicConfig(stream=sys.stderr, format="%(message)s")
spyx.compilation_cache(sys.argv[1])
compiled, compile_one = 0, object_code.compiled
def counted(text):
    global compiled
    compiled += 1
    return compile_one(text)
object_code.compiled = counted
x = jnp.asarray(jax.random.uniform(jax.random.key(0), (2, 20, 24)))
layer = nn.LIF(24, beta=0.9)
value, gradient = jax.value_and_grad(lambda x: jnp.sum(nn.run(layer, x, mode="fused")[0] ** 2) + jnp.sum(x))(x)
print(json.dumps({
    "compiled": compiled,
    "missed": events.count("cache_misses"),
    "found": events.count("cache_hits"),
    "result": hashlib.sha256(value.tobytes() + gradient.tobytes()).hexdigest(),
}))
"""

BUILDING = """
import sys
from spyx.engine.kernels import kernel_cache
from spyx.engine.kernels.language import parse

kernel_cache.compilation_cache(sys.argv[1])
for number in range(6):
    text = f"def entry(context, first, last):\\n    return context + first * last + {number}\\n"
    kernel_cache.address(f"spyx_test_{number}", lambda: parse(text, lambda *names: "int", {})["entry"], {})
"""


ENGINES: list[Any] = []
"""Never let go: XLA knows addresses of the code in them."""


def start(program: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out or "{}"), errors


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A cache folder in use, and everything as it was afterwards."""
    monkeypatch.setattr(kernel_cache, "_logged", set())
    yield kernel_cache.compilation_cache(tmp_path / "cache")
    kernel_cache.compilation_cache("off")
    jax.clear_caches()


class Kernel:
    """A small kernel that counts its compilations; every `run` is as in a new process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch, self.compiled = monkeypatch, 0
        self.target = "spyx_test"

    def build(self) -> Any:
        self.compiled += 1
        text = "def entry(context, first, last):\n    return context + first * last\n"
        return parse(text, lambda *names: "int", {})["entry"]

    def run(self) -> int:
        self.monkeypatch.setattr(kernel_cache, "_addresses", {})
        ENGINES.append(object_code._engine())
        object_code._engine.cache_clear()
        address = kernel_cache.address(self.target, self.build, {})
        return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(address)(1, 20, 2)

    @property
    def file(self) -> Path:
        return kernel_cache._path(self.target)


@pytest.fixture
def kernel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(monkeypatch)
    assert kernel.run() == 41
    assert kernel.compiled == 1
    return kernel


def test_a_second_process_compiles_nothing(tmp_path: Path):
    first, _ = result(start(TRAINING, tmp_path))
    again, said = result(start(TRAINING, tmp_path))
    assert first["compiled"] == 3  # forward, backward, and what all kernels share
    assert first["missed"] > 0
    assert again["compiled"] == 0
    assert again["missed"] == 0
    assert again["found"] > 0
    assert again["result"] == first["result"]
    assert not said
    # Damage to all kernels at once: one line, the same numbers, and good files in their place.
    kept = {path: path.read_bytes() for path in (tmp_path / "kernels").iterdir()}
    assert len(kept) == 3
    for path, content in kept.items():
        path.write_bytes(content[:-1])
    mended, said = result(start(TRAINING, tmp_path))
    assert mended["compiled"] == 3
    assert mended["result"] == first["result"]
    assert said.count("\n") == 1
    assert "it is damaged" in said
    assert all(path.read_bytes()[:14] == kernel_cache.MAGIC for path in kept)


def test_files_and_folders_are_the_user_s_alone(kernel: Kernel, cache: Path):
    assert kernel.file.parent == cache / "kernels"
    assert {path.stat().st_mode & 0o777 for path in (cache, cache / "kernels", cache / "xla")} == {0o700}
    assert kernel.file.stat().st_mode & 0o777 == 0o600


def test_what_is_kept_is_loaded(kernel: Kernel, caplog):
    assert kernel.run() == 41
    assert kernel.compiled == 1
    assert not caplog.records


def flipped(place: int):
    return lambda content: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


BEGIN = len(kernel_cache.MAGIC)


@pytest.mark.parametrize(
    "damage",
    [
        flipped(0),
        flipped(BEGIN),  # length of the header
        flipped(BEGIN + 8),  # header
        flipped(BEGIN + 60),
        flipped(-700),  # code
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[: BEGIN + 20],
        lambda content: b"",
        lambda content: os.urandom(3000),
    ],
    ids=["magic", "length", "header", "name", "code", "cut", "more", "short", "empty", "random"],
)
def test_a_damaged_file_is_compiled_again(kernel: Kernel, damage, caplog):
    content = kernel.file.read_bytes()
    kernel.file.write_bytes(damage(content))
    assert kernel.run() == 41
    assert kernel.compiled == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(kernel.file) in line
    assert kernel.file.read_bytes()[:BEGIN] == kernel_cache.MAGIC
    assert kernel.run() == 41
    assert kernel.compiled == 2


def repacked(content: bytes, code: bytes | None = None, **changes: Any) -> bytes:
    """A file that is whole, with another header or another object."""
    end = BEGIN + 8 + int.from_bytes(content[BEGIN : BEGIN + 8], "little")
    header, code = json.loads(content[BEGIN + 8 : end]), content[end:] if code is None else code
    header |= {"size": len(code), "sha256": hashlib.sha256(code).hexdigest()} | changes
    packed = json.dumps(header).encode()
    return kernel_cache.MAGIC + len(packed).to_bytes(8, "little") + packed + code


@pytest.mark.parametrize("fact", ["kernel", "engine", "interface", "jaxlib", "llvmlite", "system", "cpu", "features"])
def test_a_file_of_other_versions_or_another_cpu_is_not_used(kernel: Kernel, fact, caplog):
    kernel.file.write_bytes(repacked(kernel.file.read_bytes(), **{fact: "other"}))
    assert kernel.run() == 41
    assert kernel.compiled == 2
    assert f"{fact} is 'other', not " in caplog.text


@pytest.mark.parametrize("fact", sorted(object_code.facts()))
def test_every_fact_is_in_the_name_of_the_file(kernel: Kernel, fact, monkeypatch, caplog):
    facts = kernel_cache._facts() | {fact: "other"}
    monkeypatch.setattr(kernel_cache, "_facts", lambda: facts)
    assert kernel.run() == 41
    assert kernel.compiled == 2
    assert not caplog.records


def object_that_calls(function: str, name: str) -> bytes:
    import llvmlite.binding as llvm

    text = f"""
        declare i64 @{function}(i64)
        define i64 @{name}(i64 %a, i64 %b, i64 %c) {{
            %r = call i64 @{function}(i64 0)
            ret i64 41
        }}"""
    return object_code._machine().emit_object(llvm.parse_assembly(text))


def test_facts_are_those_of_this_machine():
    import llvmlite
    import llvmlite.binding as llvm

    facts = kernel_cache._facts()
    assert facts["llvmlite"] == llvmlite.__version__
    assert (facts["cpu"], facts["features"]) == (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    assert facts["jaxlib"] == version("jaxlib")


def test_another_object_under_the_old_digest_is_not_loaded(kernel: Kernel, caplog):
    content = kernel.file.read_bytes()
    code = object_that_calls("malloc", object_code.symbol(kernel.target))
    old = json.loads(content[BEGIN + 8 : content.index(b"}") + 1])["sha256"]
    kernel.file.write_bytes(repacked(content, code, sha256=old))
    assert kernel.run() == 41
    assert kernel.compiled == 2
    assert "it is damaged" in caplog.text


def test_a_file_that_is_used_becomes_new(kernel: Kernel):
    os.utime(kernel.file, (0, 0))
    kernel.run()
    assert kernel.file.stat().st_mtime > 1e9


def test_an_object_that_calls_more_than_a_kernel_does_is_not_loaded(kernel: Kernel, caplog):
    code = object_that_calls("getenv", object_code.symbol(kernel.target))
    kernel.file.write_bytes(repacked(kernel.file.read_bytes(), code))
    assert kernel.run() == 41
    assert kernel.compiled == 2
    assert "calls functions that no kernel calls" in caplog.text


def test_an_object_that_calls_more_than_a_kernel_does_is_not_kept(kernel: Kernel):
    kernel.file.unlink()
    kernel_cache._store(kernel.target, object_that_calls("getenv", "name"))
    assert not kernel.file.exists()
    kernel_cache._store(kernel.target, object_that_calls("malloc", "name"))
    assert kernel.file.exists()


def test_a_function_that_this_process_lacks_is_an_error_before_anything_runs():
    with pytest.raises(ValueError, match="no function nobody_has_this"):
        object_code.load(object_that_calls("nobody_has_this", "name"), "name")


def test_a_link_is_not_followed(kernel: Kernel, tmp_path: Path, caplog):
    kernel.file.rename(tmp_path / "elsewhere")
    kernel.file.symlink_to(tmp_path / "elsewhere")
    assert kernel.run() == 41
    assert kernel.compiled == 2
    assert len(caplog.records) == 1


def test_a_file_that_others_can_write_to_is_not_used(kernel: Kernel, caplog):
    kernel.file.chmod(0o620)
    assert kernel.run() == 41
    assert kernel.compiled == 2
    assert "others can write to it (mode 0620)" in caplog.text


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, caplog, monkeypatch):
    monkeypatch.setattr(kernel_cache, "_logged", set())
    tmp_path.chmod(0o777)
    for _ in range(2):
        assert kernel_cache.compilation_cache(tmp_path) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"spyx: the cache folder {tmp_path} is not used: others can write to it (mode 0777)."
    assert not list(tmp_path.iterdir())
    assert jax.config.jax_compilation_cache_dir is None


def test_somebody_else_s_folder_is_not_used(tmp_path: Path, caplog, monkeypatch):
    monkeypatch.setattr(kernel_cache, "_logged", set())
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert kernel_cache.compilation_cache(tmp_path) is None
    assert "belongs to user" in caplog.text


def test_a_folder_that_becomes_open_to_others_gets_no_more_kernels(kernel: Kernel, caplog):
    kernel.file.unlink()
    kernel.file.parent.chmod(0o777)
    assert kernel.run() == 41
    assert not kernel.file.exists()
    assert "kernels are not stored" in caplog.text


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, caplog, monkeypatch):
    monkeypatch.setattr(kernel_cache, "_logged", set())
    (tmp_path / "file").write_text("")
    assert kernel_cache.compilation_cache(tmp_path / "file" / "folder") is None
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_to_is_one_line(kernel: Kernel, caplog, monkeypatch):
    kernel.file.unlink()
    if os.geteuid():
        kernel.file.parent.chmod(0o500)
    else:  # nothing is read-only for root
        monkeypatch.setattr(tempfile, "mkstemp", lambda **_: os.open("/", os.O_WRONLY))
    for count in (2, 3):
        assert kernel.run() == 41
        assert kernel.compiled == count
    assert len(caplog.records) == 1
    assert "kernels are not stored" in caplog.text


def test_two_processes_at_once(tmp_path: Path):
    for process in [start(BUILDING, tmp_path) for _ in range(2)]:
        _, said = result(process)
        assert not said
    files = list((tmp_path / "kernels").iterdir())
    assert len(files) == 6
    for path in files:
        assert kernel_cache._read(path, path.name.rpartition("-")[0])


def test_threads_compile_a_kernel_once(kernel: Kernel):
    share, compiled = xla_call.Share(0, 1, 1), []

    def build() -> Any:
        compiled.append(True)
        return kernel.build()

    threads = [threading.Thread(target=xla_call.register, args=("once", "", {}, share, build)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    xla_call._compiling().submit(int).result()
    assert len(compiled) == 1


def test_the_oldest_files_go_first(kernel: Kernel, cache: Path, monkeypatch):
    for age, name in enumerate(("new", "old", "oldest", ".abandoned")):
        path = cache / "kernels" / name
        path.write_bytes(b"0" * 10_000)
        os.utime(path, (0, time.time() - 5000 * age))
    monkeypatch.setattr(kernel_cache, "LARGEST_FOLDER", {"kernels": 15_000})
    kernel.run()
    kernel_cache.compilation_cache(cache)
    assert {path.name for path in (cache / "kernels").iterdir()} == {"new", kernel.file.name}


def test_the_environment_chooses_the_folder(tmp_path: Path, monkeypatch):
    try:
        monkeypatch.setenv("SPYX_CACHE", str(tmp_path / "chosen"))
        assert spyx.compilation_cache() == tmp_path / "chosen"
        monkeypatch.setenv("SPYX_CACHE", "off")
        assert spyx.compilation_cache() is None
        assert jax.config.jax_compilation_cache_dir is None
        monkeypatch.delenv("SPYX_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
        assert spyx.compilation_cache() == tmp_path / "user" / "spyx" / "compiled"
    finally:
        spyx.compilation_cache("off")


def test_a_cache_of_jax_that_is_set_already_stays(tmp_path: Path):
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    try:
        spyx.compilation_cache(tmp_path / "cache")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
        assert jax.config.jax_persistent_cache_min_compile_time_secs == before
        spyx.compilation_cache("off")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        spyx.compilation_cache("off")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read as Linux tells it")
def test_compiling_leaves_nothing_but_the_object_in_memory():
    """A pipeline of passes is 160 kB, which llvmlite 0.50 does not free by itself."""
    text = "define i64 @f(i64 %a) {\n  %b = mul i64 %a, %a\n  ret i64 %b\n}\n"

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(3):
        object_code.compiled(text)
    before = pages()
    for _ in range(40):
        object_code.compiled(text)
    assert (pages() - before) * os.sysconf("SC_PAGE_SIZE") < 2 * 2**20
