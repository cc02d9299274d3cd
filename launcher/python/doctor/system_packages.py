"""Which Debian package has a library that wheels take for granted and slim containers leave out."""

from __future__ import annotations

# Names of Debian 12; where 13 has renamed a package ("t64"), the new one provides the old name.
PACKAGES = {
    "libGL.so.1": "libgl1",
    "libGLU.so.1": "libglu1-mesa",
    "libEGL.so.1": "libegl1",
    "libOpenGL.so.0": "libopengl0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libXi.so.6": "libxi6",
    "libXtst.so.6": "libxtst6",
    "libXrandr.so.2": "libxrandr2",
    "libXcursor.so.1": "libxcursor1",
    "libXfixes.so.3": "libxfixes3",
    "libXcomposite.so.1": "libxcomposite1",
    "libXdamage.so.1": "libxdamage1",
    "libxcb.so.1": "libxcb1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgobject-2.0.so.0": "libglib2.0-0",
    "libcairo.so.2": "libcairo2",
    "libpango-1.0.so.0": "libpango-1.0-0",
    "libpangocairo-1.0.so.0": "libpangocairo-1.0-0",
    "libgdk_pixbuf-2.0.so.0": "libgdk-pixbuf-2.0-0",
    "libgtk-3.so.0": "libgtk-3-0",
    "libnss3.so": "libnss3",
    "libnspr4.so": "libnspr4",
    "libasound.so.2": "libasound2",
    "libportaudio.so.2": "libportaudio2",
    "libsndfile.so.1": "libsndfile1",
    "libgomp.so.1": "libgomp1",
    "libatomic.so.1": "libatomic1",
    "libgfortran.so.5": "libgfortran5",
    "libquadmath.so.0": "libquadmath0",
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libopenblas.so.0": "libopenblas0",
    "libblas.so.3": "libblas3",
    "liblapack.so.3": "liblapack3",
    "libnuma.so.1": "libnuma1",
    "libibverbs.so.1": "libibverbs1",
    "librdmacm.so.1": "librdmacm1",
    "libhwloc.so.15": "libhwloc15",
    "libmpi.so.40": "libopenmpi3",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libmagic.so.1": "libmagic1",
    "libzbar.so.0": "libzbar0",
    "libpq.so.5": "libpq5",
    "libodbc.so.2": "libodbc2",
    "libmariadb.so.3": "libmariadb3",
    "libaio.so.1": "libaio1",
    "libsqlite3.so.0": "libsqlite3-0",
    "libxml2.so.2": "libxml2",
    "libxslt.so.1": "libxslt1.1",
    "libexpat.so.1": "libexpat1",
    "libuuid.so.1": "libuuid1",
    "libffi.so.8": "libffi8",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "libz.so.1": "zlib1g",
    "libbz2.so.1.0": "libbz2-1.0",
    "liblzma.so.5": "liblzma5",
    "libzstd.so.1": "libzstd1",
    "libcurl.so.4": "libcurl4",
    "libcrypt.so.1": "libcrypt1",
    "libtk8.6.so": "libtk8.6",
    "libtcl8.6.so": "libtcl8.6",
}
# Of libstdc++: which GCC was the first to have a version (its manual, abi.html).
COMPILERS = {
    "GLIBCXX_3.4.26": "9",
    "GLIBCXX_3.4.28": "9.3",
    "GLIBCXX_3.4.29": "11",
    "GLIBCXX_3.4.30": "12",
    "GLIBCXX_3.4.31": "13",
    "GLIBCXX_3.4.32": "13.2",
    "GLIBCXX_3.4.33": "14",
    "GLIBCXX_3.4.34": "15",
    "CXXABI_1.3.13": "11",
    "CXXABI_1.3.14": "13",
    "CXXABI_1.3.15": "14",
}


def install(libraries: list[str]) -> str:
    """How to install what of `libraries` is known; empty: nothing is."""
    packages = dict.fromkeys(PACKAGES[x] for x in libraries if x in PACKAGES)
    return f"apt-get install {' '.join(packages)}" if packages else ""


def newer_libstdcxx(version: str) -> str:
    """Of a version that is lacking; empty: it is none of libstdc++'s."""
    if not version.startswith(("GLIBCXX_", "CXXABI_")):
        return ""
    compiler = COMPILERS.get(version)
    since = f" of GCC {compiler} or newer" if compiler else ""
    return f"use a libstdc++.so.6{since}"
