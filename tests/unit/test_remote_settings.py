"""What a user says of a remote cache: the settings file, the environment, the credential helper, each Bazel's flags."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from packaging.version import Version

from crosswheel.building.remote import credentials
from crosswheel.building.remote.credentials import Credentials, HelperError
from crosswheel.building.remote.endpoints import Remote, address, checked
from crosswheel.building.remote.opening import flags, kept_apart, refuse_executor
from crosswheel.cli.settings import DATA, read_settings
from crosswheel.errors import InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import RunStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

HELPER = str(Path(sys.executable))


def settings_file(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return {"CROSSWHEEL_SETTINGS": str(path), "CROSSWHEEL_STORE": str(tmp_path / "store")}


def test_without_a_word_there_is_none(tmp_path: Path) -> None:
    assert read_settings(environ=settings_file(tmp_path, "")).remote is None
    assert read_settings(environ=settings_file(tmp_path, "[remote]\nupload = false\n")).remote is None


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    text = f"""
[remote]
cache = "grpcs://cache.example.org"
executor = "grpcs://builds.example.org:8443"
instance = "main"
credentials = "{HELPER} --for 'the cache'"
ca = "{tmp_path}/ca.pem"
upload = false
"""
    assert read_settings(environ=settings_file(tmp_path, text)).remote == Remote(
        cache="grpcs://cache.example.org",
        executor="grpcs://builds.example.org:8443",
        instance="main",
        credentials=(HELPER, "--for", "the cache"),
        ca=tmp_path / "ca.pem",
        upload=False,
    )


def test_the_environment_wins_and_may_take_the_right_to_send_but_not_give_it(tmp_path: Path) -> None:
    env = settings_file(tmp_path, '[remote]\ncache = "https://one.example.org"\n')
    other = read_settings(environ={**env, "CROSSWHEEL_REMOTE_CACHE": "https://other.example.org/x"}).remote
    assert other == Remote(cache="https://other.example.org/x")
    for no in ("0", "false", "No"):
        found = read_settings(environ={**env, "CROSSWHEEL_REMOTE_UPLOAD": no}).remote
        assert found == Remote(cache="https://one.example.org", upload=False)
    closed = settings_file(tmp_path, '[remote]\ncache = "https://one.example.org"\nupload = false\n')
    found = read_settings(environ={**closed, "CROSSWHEEL_REMOTE_UPLOAD": "1"}).remote
    assert found == Remote(cache="https://one.example.org", upload=False)
    assert read_settings(environ={**env, "CROSSWHEEL_REMOTE_CACHE": ""}).remote is None
    with pytest.raises(InputError, match="CROSSWHEEL_REMOTE_UPLOAD=perhaps says neither yes nor no"):
        read_settings(environ={**env, "CROSSWHEEL_REMOTE_UPLOAD": "perhaps"})


def test_offline_asks_no_cache(tmp_path: Path) -> None:
    env = settings_file(tmp_path, '[remote]\ncache = "https://one.example.org"\n')
    assert read_settings(environ=env, offline=True).remote is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cache": "ftp://h/x"}, "cache: 'ftp://h/x' begins with none of grpc://, grpcs://, http://, https://"),
        ({"cache": "cache.example.org"}, "begins with none of"),
        ({"cache": "http://"}, "names no host"),
        ({"cache": "http://h:99999"}, "is no URL"),
        ({"cache": "https://me:secret@h/"}, "let a helper say it"),
        ({"cache": "ftp://me:secret@h/"}, "cache: 'ftp://…@h/' begins with none of"),
        ({"cache": "https://me:secret@h:port/"}, "is no URL"),
        ({"cache": "https://h/x?y=1"}, "a query or a fragment cannot be used"),
        ({"cache": "grpc://h/part"}, "takes no path"),
        ({"executor": "https://h"}, "executor: 'https://h' begins with none of grpc://, grpcs://"),
        ({"cache": "http://h", "executor": "grpc://h"}, "goes with a cache of grpc:// or grpcs:// or with none"),
        ({"cache": "http://h", "credentials": ("no-such-helper",)}, "there is no program no-such-helper"),
        ({"cache": "http://h", "ca": Path("/no/such.pem")}, "there is no file /no/such.pem"),
    ],
)
def test_what_cannot_be_used_is_told(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(Remote(**given), "settings.toml")  # type: ignore[arg-type]
    assert said in caught.value.why
    assert "secret" not in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        checked(Remote(cache="ftp://h", executor="http://h", credentials=("no-such-helper",)), "settings.toml")
    assert len(caught.value.why.splitlines()) == 3
    assert caught.value.where == "settings.toml"


def test_ports_that_are_not_given() -> None:
    from urllib.parse import urlsplit

    found = [address(urlsplit(url)) for url in ("grpc://h", "grpcs://h", "https://h:1", "grpc://[::1]:9")]
    assert found == ["h:80", "h:443", "h:1", "[::1]:9"]


# --- the flags of each version ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog(DATA)


def flags_of(catalog: Catalog, version: str, remote: Remote) -> list[str]:
    known = catalog.bazels[version].remote
    assert known is not None
    named = {"cache": remote.cache, "executor": remote.runs_elsewhere}
    return flags(known, remote, {name: url for name, url in named.items() if url}, "t00ls")


def test_every_bazel_is_told_of_both_kinds_of_cache_by_the_loopback_device_alone(catalog: Catalog) -> None:
    for version in catalog.bazels:
        for url in ("https://cache.example.org/x", "grpcs://cache.example.org"):
            chosen = flags_of(catalog, version, Remote(cache=url))
            assert any("127.0.0.1:8980" in flag for flag in chosen), version
            assert not any("example.org" in flag or "{" in flag for flag in chosen), chosen
            assert "--noremote_upload_local_results" not in chosen


def test_flags_change_where_bazel_changed(catalog: Catalog) -> None:
    """As `bazel help build` of these versions has them."""
    http, grpc = Remote(cache="http://h"), Remote(cache="grpc://h")
    assert flags_of(catalog, "0.17.2", http) == [
        "--remote_timeout=60",
        "--experimental_remote_retry_max_attempts=1",
        "--remote_http_cache=http://127.0.0.1:8980",
        "--experimental_remote_spawn_cache",
        "--disk_cache=",
    ]
    assert "--remote_cache=127.0.0.1:8980" in flags_of(catalog, "0.24.1", grpc)
    assert "--remote_cache=grpc://127.0.0.1:8980" in flags_of(catalog, "0.25.1", grpc)
    assert "--remote_cache=http://127.0.0.1:8980" in flags_of(catalog, "0.25.1", http)
    assert "--disk_cache=" not in flags_of(catalog, "0.25.1", http)
    assert "--disk_cache=" in flags_of(catalog, "1.0.0", grpc)
    assert "--remote_retries=1" in flags_of(catalog, "0.26.1", http)
    assert "--remote_download_outputs=all" in flags_of(catalog, "7.4.1", grpc)
    assert "--remote_download_outputs=all" not in flags_of(catalog, "0.29.0", grpc)


def test_read_only_instance_and_executor(catalog: Catalog) -> None:
    remote = Remote(cache="grpc://h", executor="grpc://e", instance="main", upload=False)
    chosen = flags_of(catalog, "2.1.0", remote)
    assert {"--noremote_upload_local_results", "--remote_instance_name=main"} <= set(chosen)
    assert not any("executor" in flag for flag in chosen)
    remote = Remote(executor="grpc://e")
    chosen = flags_of(catalog, "2.1.0", remote)
    assert {
        "--remote_executor=grpc://127.0.0.1:8981",
        "--remote_local_fallback",
        "--remote_default_exec_properties=crosswheel=t00ls",
        "--spawn_strategy=remote,local",
    } <= set(chosen)
    assert not any("8980" in flag for flag in chosen)


def test_an_executor_and_a_bazel_that_cannot_be_used_with_one(catalog: Catalog, tmp_path: Path) -> None:
    def step_of(bazel: str) -> RunStep:
        request = Request(recipe="dm-tree", version="0.1.5", target="rpi4", tools={"bazel": bazel})
        step = plan(resolve(request, catalog), catalog, rules={}).wheel.inputs["run"]
        assert isinstance(step, RunStep)
        return step

    remote = Remote(executor="grpc://e")
    refuse_executor([step_of("2.1.0")], remote)
    refuse_executor([step_of("0.17.2")], None)
    refuse_executor([step_of("0.17.2")], Remote(cache="grpc://e"))
    with pytest.raises(InputError, match=r"Bazel 0\.17\.2 cannot be used with an executor") as caught:
        refuse_executor([step_of("0.17.2")], remote)
    assert "0.23.0" in caught.value.hint
    assert all(not tool.remote.executor for tool in catalog.bazels.values() if Version(tool.version) < Version("0.23"))  # type: ignore[union-attr]


def test_nothing_of_it_is_in_a_key(catalog: Catalog) -> None:
    from dataclasses import replace

    request = Request(recipe="dm-tree", version="0.1.5", target="rpi4")
    step = plan(resolve(request, catalog), catalog, rules={}).wheel.inputs["run"]
    assert isinstance(step, RunStep)
    assert step.remote is not None
    assert step.remote.bazel == "0.17.2"
    assert replace(step, remote=None).key == step.key
    other = plan(resolve(Request(recipe="wrapt", target="rpi4"), catalog), catalog, rules={}).wheel.inputs["run"]
    assert isinstance(other, RunStep)
    assert other.remote is None


def test_results_of_other_tools_have_other_names() -> None:
    one, other = kept_apart("a"), kept_apart("b")
    digest = "0" * 64
    assert len({digest, one(digest), other(digest)}) == 3
    assert one(digest) == kept_apart("a")(digest)
    assert len(one(digest)) == 64


# --- credentials -----------------------------------------------------------------------------------------------------


def helper(tmp_path: Path, script: str) -> tuple[str, ...]:
    path = tmp_path / "helper.py"
    path.write_text(script)
    return (sys.executable, str(path))


COUNTING = """
import json, sys
from pathlib import Path
assert sys.argv[1:] == ["get"]
uri = json.load(sys.stdin)["uri"]
count = Path(__file__).with_name("count")
count.write_text(count.read_text() + "x" if count.exists() else "x")
print(json.dumps({"headers": {"Authorization": ["Bearer " + uri]}%s}))
"""


def test_a_helper_is_asked_once_while_its_answer_holds(tmp_path: Path) -> None:
    given = Credentials(helper(tmp_path, COUNTING % ""), "https://h/x")
    assert given.headers() == (("Authorization", "Bearer https://h/x"),)
    assert given.headers() == given.headers()
    assert (tmp_path / "count").read_text() == "x"


def test_an_answer_that_has_expired_is_asked_for_again(tmp_path: Path) -> None:
    given = Credentials(helper(tmp_path, COUNTING % ', "expires": "2020-01-01T00:00:00Z"'), "https://h/x")
    given.headers()
    given.headers()
    assert (tmp_path / "count").read_text() == "xx"


def test_no_helper_says_nothing() -> None:
    assert Credentials((), "https://h").headers() == ()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no token: log in first')", "ended with 1: no token: log in first"),
        ("print('s3cret')", "did not answer with JSON"),
        ("print('[]')", "has no `headers`"),
        ('print(\'{"headers": {"a": "b"}}\')', "are not lists of texts"),
        ('print(\'{"headers": {"a": ["b\\\\nEvil: 1"]}}\')', "are not lists of texts"),
        ('print(\'{"headers": {}, "expires": "soon"}\')', "which is no time"),
    ],
)
def test_a_helper_that_fails_is_told_of_without_its_secrets(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(HelperError) as caught:
        Credentials(helper(tmp_path, script), "https://h").headers()
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_helper_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(HelperError, match="did not answer within"):
        Credentials(helper(tmp_path, "import time; time.sleep(60)"), "https://h").headers()
    assert time.monotonic() - began < 10
