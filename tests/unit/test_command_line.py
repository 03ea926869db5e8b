"""What the command line says to wrong words, and its help. Each case is a process of its own; none needs Docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import CommandLine

from crosswheel.cli import ns

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

WRONG = {
    "a package": ("build wrpat", "there is no recipe 'wrpat'", "did you mean wrapt?"),
    "no package": ("build", "`build` wants PACKAGE", "./x --help build"),
    "a target": ("plan wrapt --target rpi5", "there is no target 'rpi5'", "did you mean rpi4?"),
    "an empty target": ("build wrapt --target=", "there is no target ''", "rpi4"),
    "a version": ("build dm-tree --version 0.1.55", "'0.1.55'", "0.1.5"),
    "a feature": ("build ml-dtypes --feature axv", "no feature 'axv'", "did you mean avx?"),
    "a processor": ("plan wrapt --target rpi4 --cpu cortex-a7", "there is no cpu 'cortex-a7'", "cortex-a72"),
    "a processor of another kind": ("plan wrapt --cpu cortex-a72", "is aarch64, and x86_64 is x86_64"),
    "a Python of no target": ("build wrapt --python 3.14", "x86_64 has CPython 3.11", "nearest that fits x86_64"),
    "a Python of no release": (
        "build wrapt --target rk3588 --python 3.13",
        "1.16.0 serves CPython >=3.6,<3.13, and asked for is 3.13",
        "nearest that fits rk3588: version 1.16.0 with CPython 3.11",
    ),
    "a tool": ("build dm-tree --tool cmake=3.25", "there is no tool 'cmake' to choose; there are: bazel, cuda, cudnn"),
    "a tool's version": ("build dm-tree --tool bazel=9", "is built by Bazel 0.17.2, 2.1.0, not 9"),
    "a Bazel that the release itself refuses": (
        "plan tf --version 1.13.2 --target nanopi-m4 --python 2.7 --tool bazel=0.26.1",
        "its own code accepts Bazel >=0.19.0,<=0.21.0 alone (grade A: configure.py",
    ),
    "a Python that has no such NumPy": (
        "plan tf --version 1.10.1 --target nanopi-m4",
        "1.10.1 takes NumPy >=1.13.3,<=1.14.5",
        "nearest that fits nanopi-m4: version 1.11.0 with CPython 2.7",
    ),
    "MKL on ARM": ("plan tf --target rpi4 --feature mkl", "the feature 'mkl' is for x86_64, and rpi4 is aarch64"),
    "a feature that is gone": (
        "plan tf --version 2.1.4 --target nanopi-m4 --feature jemalloc",
        "releases <1.12 have it",
    ),
    "externals that are not known": (
        "build tf --version 2.20.0 --target rk3588",
        "tensorflow 2.20.0 can be planned, but not built",
        "./x recipe externals tensorflow --version 2.20.0 --source TREE",
    ),
    "an output": ("plan protobuf --output wheel", "protobuf 3.4.0 has no output 'wheel'; it has: protoc"),
    "what a bundle requires": (
        "build protobuf --with-dependencies",
        "protoc of protobuf is no wheel, and requires none",
    ),
    "a tool of no use": ("build wrapt --tool bazel=2.1.0", "is not built by Bazel"),
    "a feature on and off": ("build dm-tree --cuda --feature no-cuda", "'cuda' is asked for and refused at once"),
    "a feature against the target": ("build wrapt --target rpi4 --no-avx", "AVX is a feature of x86_64"),
    "a feature against the processor": ("plan wrapt --no-avx --cpu x86-64-v3", "contradicts --cpu x86-64-v3"),
    "no source": ("build wrapt --source wrapt", "'wrapt' is not of the form NAME=VALUE", "for example --source"),
    "a source's name": ("build wrapt --source wrpat=.", "has no source 'wrpat'", "it has: wrapt"),
    "a source that is not there": ("build wrapt --source wrapt=/nowhere", "does not exist", "/nowhere"),
    "half a tool": ("build dm-tree --tool bazel", "'bazel' is not of the form NAME=VALUE", "bazel=2.1.0"),
    "no jobs": ("build wrapt --jobs 0", "--jobs 0 is no number of jobs", "give 1 or more"),
    "jobs in words": ("build wrapt --jobs many", "--jobs takes a number, and 'many' is none"),
    "no memory": ("build wrapt --memory 0", "is no amount of memory", "--memory 8"),
    "a sandbox": ("build wrapt --sandbox vm", "there is no sandbox 'vm'", "--sandbox docker, or --sandbox host"),
    "no value": ("build wrapt --target", "`build` wants a value for --target"),
    "an option": ("build wrapt --targte rpi4", "`build` has no option --targte", "did you mean --target?"),
    "a further word": ("build wrapt dm-tree", "`build` takes no further word, and dm-tree is one"),
    "a command": ("biuld wrapt", "there is no command biuld", "did you mean build?"),
    "help on nothing": ("--help biuld", "there is no command biuld", "did you mean build?"),
    "an action of sysroot": ("sysroot look", "`sysroot` has no action 'look'", "./x sysroot lock"),
    "a lock": ("sysroot lock emulater", "there is no lock 'emulater'", "did you mean emulator"),
    "no lock": ("sysroot lock", "name one lock, or a target"),
    "an action of toolchain": ("toolchain draw --target rpi4 --out x", "has no action 'draw'", "toolchain render"),
    "half a toolchain": ("toolchain render --target rpi4", "`toolchain` wants OUT"),
    "an action of patches": ("patches mend", "`patches` has no action 'mend'", "./x patches check"),
    "half a refresh": ("patches refresh dm-tree", "needs a recipe, a patch and two trees", "--pristine DIR"),
    "a span of time": ("clean --older-than yesterday", "'yesterday' is no span of time", "for example 12h"),
    "a size": ("clean --max-size big", "'big' is no size", "for example 500M"),
    "no wheel": ("verify", "no wheel is named", "./x verify dist/rpi4"),
    "a wheel that is not there": ("verify /nowhere/a-1-py3-none-any.whl", "there is no such wheel"),
    "a key": ("explain 0123", "The store is empty", "./x plan PACKAGE"),
    "a key's log": ("log 0123", "The store is empty", "./x plan PACKAGE"),
    "a recipe to list": ("list dmtree", "there is no recipe 'dmtree'", "did you mean dm-tree or tree?"),
}


@pytest.fixture
def crosswheel(tmp_path: Path) -> CommandLine:
    """With an empty store, which none of these commands fills."""
    return CommandLine(env={"CROSSWHEEL_STORE": str(tmp_path / "store"), "DOCKER_HOST": "unix:///nowhere"})


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words(crosswheel: CommandLine, case: str, tmp_path: Path) -> None:
    """Exit code 2, one error on stderr that says what is wrong and what there is instead, nothing on stdout."""
    words, *said = WRONG[case]
    done = crosswheel(*words.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("error: ") == 1
    for text in said:
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store" / "artefacts").exists()
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("case", ["a package", "a feature against the processor", "jobs in words", "an option"])
def test_wrong_words_as_json(crosswheel: CommandLine, case: str, tmp_path: Path) -> None:
    words, *said = WRONG[case]
    done = crosswheel(*words.split(), "--json", cwd=tmp_path)
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 2
    assert said[0] in answer["error"]["what"] + answer["error"]["why"]
    assert done.stderr.startswith("error: ")


def test_all_reasons_at_once(crosswheel: CommandLine) -> None:
    done = crosswheel(
        "plan", "dm-tree", "--target", "rpi4", "--python", "3.7", "--no-avx", "--cpu", "x86-64-v3", "--tool", "bazel=9"
    )
    assert done.returncode == 2
    for reason in ("AVX is a feature of x86_64", "is x86_64, and rpi4", "CPython 3.11, not 3.7", "not 9"):
        assert reason in done.stderr


@pytest.mark.parametrize("name", sorted(ns.task_names))
def test_help_of_every_task(crosswheel: CommandLine, name: str) -> None:
    """What it does, its words, and every option with a line of its own that says something."""
    words = name.split(".")
    done = crosswheel("--help", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    usage, empty, what = done.stdout.splitlines()[:3]
    assert usage.startswith(f"Usage: ./x {' '.join(words)}") and empty == "" and what.rstrip().endswith((".", "`."))
    task = ns[name]
    for argument in task.get_arguments():
        option = argument.name.strip("_").replace("_", "-")
        assert argument.help, f"{name}: --{option} has no help"
        assert f"--{option}" in done.stdout or option.upper() in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120


def test_list_of_tasks(crosswheel: CommandLine) -> None:
    done = crosswheel("--list")
    assert done.returncode == 0
    for name in ns.task_names:
        assert f"  {name.replace('.', ' ')} " in done.stdout


def test_completion(crosswheel: CommandLine) -> None:
    script = crosswheel("--print-completion-script", "bash")
    assert script.returncode == 0
    assert "complete -F _complete_invoke" in script.stdout
    tasks = crosswheel("--complete", "--", "invoke ").stdout.split()
    assert set(ns.task_names) <= set(tasks)
    options = crosswheel("--complete", "--", "invoke build dm-tree --").stdout.split()
    assert {"--target", "--no-avx", "--json", "--keep-failed"} <= set(options)
    assert "--older-than" not in options
