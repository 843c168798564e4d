"""Which files a worker may reach: what Python, libraries, models, fonts and GPU drivers need."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import docling_serve

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
    *("/opt/rocm", "/opt/nvidia", "/opt/libreoffice", "/opt/intel"),
    *("/proc", "/sys", "/var/cache/fontconfig", "/var/lib/ghostscript"),
)
#: Not all of ``/etc``, where servers also keep their passwords.
_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "nsswitch.conf", "hosts"),
    *("host.conf", "hostname", "gai.conf", "resolv.conf", "services", "protocols", "localtime"),
    *("timezone", "passwd", "group", "ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf"),
    *("ca-certificates", "pki", "crypto-policies", "fonts", "mime.types", "magic", "locale.alias"),
    *("locale.conf", "papersize", "paperspecs", "alternatives", "libreoffice", "python3"),
    *("OpenCL", "vulkan", "glvnd", "nvidia", "ImageMagick-6", "ImageMagick-7", "debian_version"),
    *("os-release", "lsb-release", "machine-id"),
)
_NAME_SERVERS = ("/run/systemd/resolve", "/run/NetworkManager")
#: Variables that name files or folders which libraries read, separated by colons if several.
_NAMED = (
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME"),
    *("HF_ASSETS_CACHE", "MODELSCOPE_CACHE", "EASYOCR_MODULE_PATH", "TESSDATA_PREFIX"),
    *("DOCLING_ARTIFACTS_PATH", "DOCLING_CACHE_DIR", "DOCLING_LIBREOFFICE_CMD", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CUDA_HOME"),
    *("CUDA_PATH", "XDG_DATA_HOME", "FONTCONFIG_PATH", "FONTCONFIG_FILE", "LD_PRELOAD"),
)
_CACHES = (".cache/huggingface", ".cache/docling", ".cache/torch", ".cache/modelscope", ".EasyOCR")
_OF_HOME = (*_CACHES, ".cache/fontconfig", ".local/share/fonts", ".fonts", ".config/fontconfig")
_CACHE_VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "TORCH_HOME",
    "MODELSCOPE_CACHE",
    "DOCLING_CACHE_DIR",
)

_PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Device files of GPU drivers: NVIDIA's, WSL's, AMD's.
_DEV = Path("/dev")
_GPU_DEVICES = ("nvidia*", "nvidia-caps/*", "dxg", "kfd", "dri/*")


def readable(
    environ: Mapping[str, str], more: Iterable[str] = (), hidden: Iterable[str] = ()
) -> list[str]:
    """What a worker may read. ``hidden`` files and folders are left out of their parent folders,
    but paths inside them may still be listed explicitly."""
    asked = [*_SYSTEM, *_NAME_SERVERS, *(f"/etc/{name}" for name in _ETC), *more]
    asked += [sys.prefix, sys.base_prefix, sys.exec_prefix]
    asked += [part for name in _NAMED for part in environ.get(name, "").split(":")]
    home = environ.get("HOME", "")
    asked += [f"{home}/{name}" for name in _OF_HOME if home]
    asked += [part for entry in sys.path for part in _importable(Path(entry))]
    asked.append(str(Path(docling_serve.__file__).parent))
    secrets = [Path(path).resolve() for path in hidden]
    there = (Path(path).resolve() for path in asked if path.startswith("/"))
    return [str(kept) for path in dict.fromkeys(there) for kept in _around(path, secrets)]


def model_caches(environ: Mapping[str, str]) -> list[str]:
    """Where libraries put the models they download."""
    home = environ.get("HOME", "")
    caches = [environ.get(name, "") for name in _CACHE_VARIABLES]
    caches += [f"{home}/{name}" for name in _CACHES if home]
    caches += [f"{entry}/rapidocr/models" for entry in sys.path]
    return [path for path in caches if path and Path(path).is_dir()]


def devices() -> list[str]:
    """Device files that conversions use, including those of GPUs."""
    gpus = (str(path) for shape in _GPU_DEVICES for path in _DEV.glob(shape))
    return [*_PLAIN_DEVICES, *gpus]


def _importable(entry: Path) -> Iterator[str]:
    """A folder of installed packages is taken whole. Of any other, which may be a home, only what
    Python imports from it."""
    if "-packages" in entry.name or not entry.is_dir():
        yield str(entry.absolute())
        return
    folder = entry.absolute()
    for shape in ("*.py", "*-info", "*/__init__.py"):
        for found in folder.glob(shape):
            yield str(found.parent if found.name == "__init__.py" else found)


def _around(path: Path, secrets: list[Path]) -> Iterator[Path]:
    """``path``, or if it contains a secret, its other contents."""
    if path in secrets:
        return
    if not any(path in secret.parents for secret in secrets):
        yield path
        return
    with contextlib.suppress(OSError):
        for entry in path.iterdir():
            if not entry.is_symlink():
                yield from _around(entry, secrets)
