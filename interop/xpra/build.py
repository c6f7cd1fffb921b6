"""Builds other versions of Xpra from their source archives, as far as a login needs them.

Usage: build.py FOLDER

Each version lands in FOLDER/VERSION with a program `run`, which is its command `xpra` without windows, sound and X11:
what its Python does alone, and the few parts of its network layer that are compiled. What is there already stays.
Exit code 3, and a line that says why, where something that this needs is missing: then the tests leave these out.
"""

import hashlib
import io
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request
import zipfile

# The archives, as the index of Python packages has them: name, file, SHA-256.
CYTHON = ("cython", "cython-3.2.4-py3-none-any.whl",
          "732fc93bc33ae4b14f6afaca663b916c2fdd5dcbfad7114e17fb2434eeaea45c")
XPRA = {
    "4.4.6": "1210d14bb8b6e35d7e5303d6c460bb3d13e049b5f4a82e6f880e06a1325fb355",
    "6.5.5": "58cf04107d5682f202987fe5c0f7d8af1c6e183304a8bd0887a34f3b55fa1c81",
}
# What is compiled, where a version has it, and what it is linked with.
COMPILED = {
    "xpra/net/rencodeplus/rencodeplus.pyx": {},
    "xpra/net/websockets/mask.pyx": {},
    "xpra/net/lz4.pyx": {"libraries": ["lz4"]},
    "xpra/net/lz4/lz4.pyx": {"libraries": ["lz4"]},
    "xpra/buffers/cyxor.pyx": {},
    "xpra/buffers/membuf.pyx": {"more": ["xpra/buffers/memalign.c"]},
    "xpra/server/pam.pyx": {"libraries": ["pam", "pam_misc"], "folders": ["/usr/include/security"]},
    "xpra/platform/pam.pyx": {"libraries": ["pam", "pam_misc"]},
}
# The machine's own configuration is another version's, and a server that root runs would start D-Bus and CUPS.
RUN = """import os
import sys
for name in ("XPRA_SYSTEM_CONF_DIRS", "XPRA_DEFAULT_CONF_DIRS"):
    os.environ[name] = {folder!r} + "/configuration"
for name in ("XPRA_SYSTEM_DBUS", "XPRA_SYSTEM_CUPS"):
    os.environ[name] = "0"
sys.path.insert(0, {folder!r})
from xpra.scripts.main import main
sys.exit(main("xpra", ["xpra", *sys.argv[1:]]))
"""
PATIENCE = 60


class Missing(Exception):
    """Something that the build needs and that is not here."""


def build(target):
    missing = [version for version in XPRA if not is_complete(target, version)]
    if not missing:
        return
    cython = os.path.join(target, "cython")
    # Half a build is none: it is made aside, and takes its name when it is whole.
    with zipfile.ZipFile(io.BytesIO(fetch(*CYTHON))) as archive:
        archive.extractall(cython)
    compilers = [(version, compiler(target, cython, version)) for version in missing]
    for version, process in compilers:
        output = process.communicate()[0]
        if process.returncode:
            raise Missing(f"Xpra {version} does not compile:\n{output}")
        with open(mark(target, version), "w") as file:
            file.write(state(version))
        print(f"built Xpra {version}")


def compiler(target, cython, version):
    """Unpacks a version and starts compiling it."""
    folder = os.path.join(target, version)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    name = f"xpra-{version}"
    with tarfile.open(fileobj=io.BytesIO(fetch("xpra", name + ".tar.gz", XPRA[version]))) as archive:
        for member in archive.getmembers():
            member.name = member.name.removeprefix(name + "/")
            if member.name.startswith("xpra/") and member.isfile() and ".." not in member.name:
                archive.extract(member, folder)
    with open(os.path.join(folder, "run"), "w") as file:
        file.write(RUN.format(folder=folder))
    environment = {**os.environ, "PYTHONPATH": cython, "CFLAGS": "-O1 -w"}
    command = [sys.executable, os.path.abspath(__file__), "--compile"]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def compile_here():
    from Cython.Build import cythonize
    from setuptools import Extension, setup
    extensions = [
        Extension(path.removesuffix(".pyx").replace("/", "."), [path, *linked.get("more", [])],
                  libraries=linked.get("libraries", []), include_dirs=linked.get("folders", []))
        for path, linked in COMPILED.items() if os.path.exists(path)
    ]
    setup(name="xpra", packages=[], ext_modules=cythonize(extensions, language_level=3),
          script_args=["build_ext", "--inplace"])


def fetch(package, file, digest):
    """An archive from wherever pip takes packages from. Only the one that is meant is taken."""
    page = index() + package + "/"
    found = re.search(r'href="([^"#]*/%s)["#]' % re.escape(file), load(page).decode())
    if not found:
        raise Missing(f"the index of Python packages has no {file}")
    data = load(urllib.parse.urljoin(page, found[1]))
    actual = hashlib.sha256(data).hexdigest()
    if actual != digest:
        raise SystemExit(f"{file} has the checksum {actual}, and {digest} is expected: it is not used")
    return data


def load(address):
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE, context=context) as answer:
            return answer.read()
    except OSError as error:
        raise Missing(f"the index of Python packages cannot be asked: {error}") from error


def index():
    """The index that pip is configured with: its help names it as the default."""
    for pip in (["pip"], ["pip3"], [sys.executable, "-m", "pip"]):
        try:
            told = subprocess.run([*pip, "download", "--help"], capture_output=True, text=True,
                                  env={**os.environ, "COLUMNS": "1000"})
        except OSError:
            continue
        found = re.search(r"--index-url .*?\(default\s+(https?://[^\s)]+)\)", told.stdout, re.DOTALL)
        if found:
            return found[1].rstrip("/") + "/"
    raise Missing("there is no pip, which would know the index of Python packages")


def is_complete(target, version):
    try:
        with open(mark(target, version)) as file:
            return file.read() == state(version)
    except OSError:
        return False


def state(version):
    """What a build was made of: by another recipe than this file's, it is made anew."""
    with open(os.path.abspath(__file__), "rb") as file:
        recipe = hashlib.sha256(file.read()).hexdigest()
    return f"{XPRA[version]}\n{recipe}\n"


def mark(target, version):
    return os.path.join(target, version, "complete")


if __name__ == "__main__":
    if sys.argv[1:] == ["--compile"]:
        compile_here()
    else:
        try:
            build(os.path.abspath(sys.argv[1]))
        except Missing as missing:
            print(missing)
            sys.exit(3)
