"""What the comparisons with other people's programs have in common. None of them fetches anything."""
import contextlib
import importlib.metadata
import importlib.util
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import types

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import measure  # noqa: E402  (after the path that it is on)


class Missing(Exception):
    """A peer that is not here, in a sentence: it is left out."""


def peers_of(task):
    """The modules of the folder `task`, a file a peer."""
    for path in sorted((HERE / task).glob("*.py")):
        place = importlib.util.spec_from_file_location(f"{task}_{path.stem}", path)
        module = importlib.util.module_from_spec(place)
        place.loader.exec_module(module)
        yield path.stem, module


def left_out(name, sentence):
    print(f"{name}: {sentence}; left out", file=sys.stderr)


def present(task, options):
    """(name, peer, where it comes from) of the task's peers that are here: modules, or their PEER."""
    for name, module in peers_of(task):
        peer = getattr(module, "PEER", module)
        try:
            where = peer.find(options)
        except Missing as missing:
            left_out(name, missing)
            continue
        yield name, peer, where


def checkout(folder, repository, commit, any_commit=False):
    """Where a peer's code comes from; Missing unless `folder` is a checkout of that commit."""
    if folder is None:
        raise Missing(f"no folder given with a checkout of {repository} at {commit}")
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    head = done.stdout.strip()
    if done.returncode != 0:
        raise Missing(f"{folder} is no checkout of {repository}")
    if head != commit and not any_commit:
        raise Missing(f"{folder} is at {head}, expected {repository} at {commit} (--any-commit to go on)")
    return {"repository": repository, "commit": head}


def package(name):
    """The version of a Python package; Missing where it is not installed."""
    try:
        return {"package": name, "version": importlib.metadata.version(name)}
    except importlib.metadata.PackageNotFoundError:
        raise Missing(f"the Python package {name} is not installed for {sys.executable}") from None


@contextlib.contextmanager
def modules_of(folder):
    """Imports come from `folder` first; what was imported from it is forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(folder)):
                del sys.modules[name]


def stand_in(name, **members):
    """A module in the place of one that has no part in the algorithm, or needs a GPU."""
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


def layer_of(w):
    """A layer of torch with these weights."""
    import torch
    layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(w.copy())
    return layer


def call(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stderr[-2000:].decode(errors='replace')}")
    return done.stdout


def make(path, command):
    """`path`, which the command writes, unless it is there: under another name until it is whole."""
    if path.exists():
        return path
    print(f"making {path.name}", file=sys.stderr)
    part = path.with_name(f"part-{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.unlink(missing_ok=True)
    call([part if word == path else word for word in command])
    part.rename(path)
    return path


def claim(work, options):
    """What lies in the work folder is of one model and one calibration: another's is refused."""
    mine = {name: [str(path.resolve()), path.stat().st_size] for name, path in
            (("model", options.model), ("calib", options.calib)) if path is not None}
    note = work / "made-of.json"
    if not note.exists() and any(work.iterdir()):
        sys.exit(f"{work} holds what this does not know: name an empty --work")
    before = json.loads(note.read_text()) if note.exists() else {}
    for name in mine:
        if before.get(name, mine[name]) != mine[name]:
            sys.exit(f"{work} holds what was made of {before[name][0]}, not of {mine[name][0]}: name another --work")
    note.write_text(json.dumps(before | mine))


def spread(values, digits=2):
    return {"median": round(statistics.median(values), digits), "min": round(min(values), digits),
            "max": round(max(values), digits)}


def said(values, digits=2):
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f} to {values['max']:.{digits}f})"


def write(path, task, options, peers, **more):
    """A result: `peers` says of each peer which version it is and how it is set."""
    path.write_text(json.dumps({
        "schema": "squish.peers/1", "task": task, "command": " ".join(["bench/peers/run.py", *sys.argv[1:]]),
        "cpu": measure.cpu(), "squish": measure.version(options.squish), "threads": options.threads, "peers": peers,
        **more}, indent=1) + "\n")
