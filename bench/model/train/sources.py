"""The documents the bundled model is trained on: Debian packages of permissively licensed technical documentation.

Each entry says which files of the package are prose (the same text often ships twice, as reStructuredText source and as HTML)
and under which licence the package's copyright file puts it. Copyleft documentation is left out on purpose, also where the
program itself is permissive (Celery's manual, for one, is CC-BY-SA).
"""

from typing import NamedTuple


class Source(NamedTuple):
    package: str
    suffixes: tuple      # file name endings that are read
    must_contain: str    # a substring of the path ("" accepts all)
    licence: str
    cap_mb: float = 12.0  # no single project may dominate the mixture


_SPHINX_TXT = (".txt", ".rst")
_SRC = "_sources"

SOURCES = [
    Source("python3.11-doc", _SPHINX_TXT, _SRC, "PSF-2.0"),
    Source("llvm-16-doc", _SPHINX_TXT, _SRC, "Apache-2.0 WITH LLVM-exception"),
    Source("clang-16-doc", _SPHINX_TXT, _SRC, "Apache-2.0 WITH LLVM-exception"),
    Source("cmake-data", (".rst",), "", "BSD-3-Clause"),
    Source("postgresql-doc-15", (".html",), "", "PostgreSQL"),
    Source("sqlite3-doc", (".html",), "", "public domain"),
    Source("python-django-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-scipy-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-pandas-doc", (".html",), "", "BSD-3-Clause", 14.0),
    Source("python-sklearn-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-statsmodels-doc", (".html",), "", "BSD-3-Clause", 8.0),
    Source("python-skimage-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-sympy-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-xarray-doc", (".html",), "", "Apache-2.0"),
    Source("python-astropy-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-dask-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-sqlalchemy-doc", (".html",), "", "MIT"),
    Source("python-mpmath-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-tornado-doc", (".html",), "", "Apache-2.0"),
    Source("python-gevent-doc", (".html",), "", "MIT"),
    Source("python-h5py-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-attr-doc", (".html",), "", "MIT"),
    Source("python-cryptography-doc", (".html",), "", "Apache-2.0 or BSD-3-Clause"),
    Source("python-flask-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-jinja2-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-werkzeug-doc", (".html",), "", "BSD-3-Clause"),
    Source("python-aiohttp-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("python-ipython-doc", _SPHINX_TXT, _SRC, "BSD-3-Clause"),
    Source("python-pytest-doc", _SPHINX_TXT, _SRC, "MIT"),
    Source("python-setuptools-doc", _SPHINX_TXT, _SRC, "MIT"),
    Source("sphinx-doc", _SPHINX_TXT, _SRC, "BSD-2-Clause"),
    Source("mypy-doc", _SPHINX_TXT, _SRC, "MIT"),
    Source("twisted-doc", (".html",), "/projects/", "MIT"),
    Source("nova-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("neutron-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("cinder-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("glance-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("keystone-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("heat-doc", (".html",), "", "Apache-2.0", 6.0),
    Source("ironic-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("swift-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("openvswitch-doc", _SPHINX_TXT, _SRC, "Apache-2.0"),
    Source("dpdk-doc", _SPHINX_TXT, _SRC, "BSD-3-Clause"),
    Source("rust-doc", (".html",), "/rust-doc/", "MIT or Apache-2.0", 10.0),
    Source("libboost1.81-doc", (".html",), "", "BSL-1.0", 10.0),
    Source("erlang-doc", (".html",), "", "Apache-2.0", 10.0),
    Source("apache2-doc", (".html.en", ".html"), "/en/", "Apache-2.0"),
    Source("ant-doc", (".html",), "/manual/", "Apache-2.0"),
    Source("nodejs-doc", (".html",), "", "MIT"),
    Source("libhdf5-doc", (".html",), "", "BSD-3-Clause"),
    Source("tcllib", (".html",), "", "TCL", 5.0),
    Source("swi-prolog-doc", (".html",), "", "BSD-2-Clause"),
    Source("zsh-doc", (".html",), "", "MIT-Modern-Variant"),
    Source("libx11-doc", (".html",), "", "MIT", 4.0),
    Source("perl-doc", (".pod",), "", "Artistic-1.0-Perl (dual licence)", 9.0),
]

# The manuals that a small model can learn within a day on a small machine. A document keeps its side of the split.
CORE = ("python3.11-doc", "llvm-16-doc", "clang-16-doc", "cmake-data", "postgresql-doc-15", "sqlite3-doc", "python-django-doc")
MIXTURES = {"wide": SOURCES, "core": [s for s in SOURCES if s.package in CORE]}
