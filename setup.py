"""Build metadata, read from settings.ini so that it is written once."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

_here = Path(__file__).parent
_config = ConfigParser(delimiters=["="])
_config.read(_here / "settings.ini", encoding="utf-8")
meta = _config["DEFAULT"]

_extras = {
    key.removesuffix("_requirements"): value.split() for key, value in meta.items() if key.endswith("_requirements")
}

setup(
    name=meta["pip_name"],
    version=meta["version"],
    description=meta["description"],
    long_description=(_here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression=meta["license"],
    license_files=["LICENSE", "NOTICE"],
    author=meta["author"],
    author_email=meta["author_email"],
    keywords=meta["keywords"].split(),
    url=meta["git_url"],
    project_urls={
        "Documentation": f"{meta['git_url']}/blob/{meta['branch']}/docs/index.md",
        "Changelog": f"{meta['git_url']}/blob/{meta['branch']}/CHANGELOG.md",
        "Source": meta["git_url"],
        "Issues": f"{meta['git_url']}/issues",
        "Security": f"{meta['git_url']}/security/policy",
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Framework :: IPython",
        "Framework :: Jupyter",
        "Framework :: Jupyter :: JupyterLab",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Natural Language :: Portuguese (Brazilian)",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: {version}" for version in meta["pythons"].split()),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    python_requires=f">={meta['min_python']}",
    packages=find_packages(include=[f"{meta['lib_path']}*"]),
    package_data={
        meta["lib_path"]: [
            "py.typed",
            "locale/*/LC_MESSAGES/*.mo",
            "panels/static/*",
            "panels/static/panel/*",
            "recipes/*.toml",
            "recipes/library/*.toml",
            "gates/*.toml",
            "judging/texts/*.toml",
            "judging/calibration/*.jsonl",
            "datasets/configs/*.toml",
        ]
    },
    install_requires=meta["requirements"].split(),
    extras_require=_extras,
    entry_points={
        "console_scripts": meta["console_scripts"].split(),
        "nbdev": [f"{meta['lib_path']}={meta['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
