"""A hub on this machine: what is uploaded is what is downloaded, and only safe files travel."""

import base64
import hashlib
import http.server
import json
import re
import shutil
import sys
import threading
import urllib.parse

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from vae_jax.core import Model
from vae_jax.runs import build, configs, export, hub
from vae_jax.runs.exported import load_exported

huggingface_hub = pytest.importorskip("huggingface_hub")


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that uploads and downloads use.

    `server.repos` is {name: [{path: bytes} of each commit]}.
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        length = self.headers["Content-Length"]
        body = self.rfile.read(int(length)) if length else b"".join(self.chunks())
        path = urllib.parse.unquote(self.path.partition("?")[0])
        repos = self.server.repos
        if path == "/api/validate-yaml":
            text = json.loads(body)["content"]
            yaml.safe_load(text.split("---\n")[1])
            return self.answer({"warnings": [], "errors": []})
        if path == "/api/repos/create":
            name = f"somebody/{json.loads(body)['name']}"
            status = 409 if name in repos else 200
            repos.setdefault(name, [{}])
            return self.answer({"url": f"http://{self.headers['Host']}/{name}"}, status)
        name, action = re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|commit)/main", path).groups()
        if name not in repos:
            return self.answer({}, 404, {"X-Error-Code": "RepoNotFound"})
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {v["value"]["path"]: base64.b64decode(v["value"]["content"]) for v in lines if v["key"] == "file"}
        repos[name].append(repos[name][-1] | files)
        sha = f"{len(repos[name]) - 1:040x}"
        return self.answer({"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{sha}", "commitOid": sha})

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def do_GET(self):
        path = urllib.parse.unquote(self.path.partition("?")[0])
        if of_repo := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/(\w+))?", path):
            name, revision = of_repo.groups()
            if name not in self.server.repos:
                return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            sha = self.sha(name, revision)
            files = self.server.repos[name][int(sha, 16)]
            about = {"id": name, "modelId": name, "sha": sha, "private": False, "tags": [], "downloads": 0}
            return self.answer(about | {"siblings": [{"rfilename": file} for file in files]})
        if tree := re.fullmatch(r"/api/models/(\w+/\w+)/tree/(\w+)", path):
            name, sha = tree.groups()
            files = self.server.repos[name][int(sha, 16)].items()
            digest = lambda content: hashlib.sha1(content).hexdigest()  # noqa: E731
            return self.answer([{"type": "file", "path": p, "size": len(c), "oid": digest(c)} for p, c in files])
        name, revision, file = re.fullmatch(r"/(\w+/\w+)/resolve/(\w+)/(.*)", path).groups()
        sha = self.sha(name, revision)
        content = self.server.repos[name][int(sha, 16)][file]
        tags = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha}
        return self.answer(content, 200, tags)

    do_HEAD = do_GET

    def sha(self, name, revision):
        newest = len(self.server.repos[name]) - 1
        return f"{newest:040x}" if revision in (None, "main") else revision

    def answer(self, content, status=200, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.repos = {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def api(server):
    return huggingface_hub.HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="secret")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported model with a program that is quickly made."""
    experiment = build.build(configs.find("autoencoder_digits:smoke").to_dict())
    sample = lambda params, key, context=None: jnp.full((8, 8, 1), params["level"] / 16)  # noqa: E731
    experiment = experiment._replace(model=Model(init=None, loss=None, judge=None, sample=sample))
    folder = tmp_path_factory.mktemp("exported") / "model"
    return export.export(experiment, {"level": jnp.float32(5)}, folder, platforms=("cpu",))


def test_the_bits_come_back_with_a_card(model, server, api, tmp_path):
    assert hub.push_to_hub(model, "somebody/vae", api=api).endswith("somebody/vae")
    folder = hub.from_hub("somebody/vae", cache_dir=tmp_path, api=api)
    for file in model.rglob("*"):
        if file.is_file() and file.name != "README.md":
            assert (folder / file.relative_to(model)).read_bytes() == file.read_bytes()
    front, text = (folder / "README.md").read_text().split("---\n", 2)[1:]
    assert yaml.safe_load(front) == {"library_name": "vae_jax", "tags": ["jax", "vae_jax", "autoencoder"]}
    assert text.strip() == (model / "README.md").read_text().strip()
    assert np.all(np.asarray(load_exported(folder).sampler([0])["x"]) == 5)


def test_a_commit_may_be_named(model, server, api, tmp_path):
    for _ in range(2):
        hub.push_to_hub(model, "somebody/vae", api=api)
    server.repos["somebody/vae"].append({"config.json": b"{}"})
    folder = hub.from_hub("somebody/vae", revision=f"{1:040x}", cache_dir=tmp_path, api=api)
    assert load_exported(folder).sampler is not None


@pytest.fixture
def run(tmp_path):
    """A saved run beside files that do not travel."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"family": "vae", "data": {"name": "mine", "path": "/home/somebody/x"}, "start_from": ""}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps({"test/log_prob": -23.456789, "test/kind": "=", "train/steps": 5}))
    (folder / "weights.safetensors").write_bytes(b"0" * 16)
    for name in (".lock", "state.pkl", "evil.py", "checkpoints/1/x", "checkpoints/1/y.pkl", "big.dat"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")
    return folder


def test_of_a_run_only_safe_files_travel_and_its_card_has_the_results(run, server, api, tmp_path):
    hub.push_to_hub(run, "somebody/run", private=True, api=api)
    files = server.repos["somebody/run"][-1]
    safe = {"README.md", "config.json", "results.json", "weights.safetensors", "checkpoints/1/x"}
    assert files.keys() == safe
    assert json.loads(files["config.json"])["data"] == {"name": "mine", "path": ""}
    card = files["README.md"].decode()
    assert "# vae of mine" in card and "| test/log_prob | -23.46 |" in card and "train/steps" not in card
    files |= {"state.pkl": b"1", "evil.py": b"1", "checkpoints/1/y.pkl": b"1"}  # from elsewhere
    folder = hub.from_hub("somebody/run", cache_dir=tmp_path / "cache", api=api)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == safe


def one_line(message, call, *args, **options):
    with pytest.raises(ValueError, match=message) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_one_line_on_the_way_up_and_down(model, server, api, tmp_path):
    hub.push_to_hub(model, "somebody/vae", api=api)
    server.repos["somebody/vae"][-1]["programs/sampler.bin"] += b"1"
    one_line("programs/sampler.bin is damaged", hub.from_hub, "somebody/vae", cache_dir=tmp_path, api=api)
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "weights.safetensors").unlink()
    one_line("weights.safetensors is missing", hub.push_to_hub, copy, "somebody/new", api=api)
    assert "somebody/new" not in server.repos


def test_a_folder_stands_for_the_hub(model, tmp_path):
    assert hub.from_hub(f"file://{model}") == model
    one_line("is no model of vae_jax: it has no config.json", hub.from_hub, f"file://{tmp_path}")
    one_line("holds no exported model and no run", hub.push_to_hub, tmp_path, "somebody/x")


def test_what_the_hub_refuses_is_one_line(model, api, tmp_path, monkeypatch):
    options = {"cache_dir": tmp_path, "api": api}
    one_line("somebody/nothing was not downloaded: RepositoryNotFound", hub.from_hub, "somebody/nothing", **options)
    one_line("a/b/c was not downloaded: HFValidation", hub.from_hub, "a/b/c", **options)
    one_line("a b was not uploaded: ", hub.push_to_hub, model, "a b", api=api)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    one_line(r"the hub needs 'huggingface_hub': pip install 'vae_jax\[hub\]'", hub.from_hub, "a/b")
    one_line("the hub needs", hub.push_to_hub, model, "a/b")
