"""The module ``SampleData`` as other modules use it: registering data sets and loading one.

A stand-in for Modules/Scripted/SampleData: it has no panel and no data sets of its own, and it reads ``file:``
addresses only, so that no test depends on the network.
"""

from __future__ import annotations

import logging
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer


class SampleDataSource:
    """One data set: addresses, file names, node names, all lists of the same length."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Callable | None = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: dict | None = None,
        loadFileType: Any = None,
    ) -> None:
        if loadFileType is not None and loadFileTypes is not None:
            raise ValueError("loadFileType and loadFileTypes cannot be specified at the same time")
        loadFileTypes = loadFileType if loadFileTypes is None else loadFileTypes
        if isinstance(uris, str):
            uris, fileNames, nodeNames, loadFiles, checksums = (
                [uris],
                [fileNames],
                [nodeNames],
                [loadFiles],
                [checksums],
            )
            loadFileTypes = [loadFileTypes]
        else:
            count = len(uris)
            if loadFileTypes is None or isinstance(loadFileTypes, str):
                loadFileTypes = [loadFileTypes] * count
            nodeNames, loadFiles, checksums = (
                [None] * count if given is None else given for given in (nodeNames, loadFiles, checksums)
            )
        self.sampleName = sampleName
        self.sampleDescription = sampleName if sampleDescription is None else sampleDescription
        self.uris, self.fileNames, self.nodeNames = uris, fileNames, nodeNames
        self.loadFiles, self.loadFileTypes, self.checksums = loadFiles, loadFileTypes, checksums
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        lengths = {len(x) for x in (uris, fileNames, nodeNames, loadFiles, loadFileTypes, checksums)}
        if len(lengths) != 1:
            raise ValueError("All fields of sample data source must have the same length")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleDataSource) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.sampleName, tuple(self.uris)))


class SampleDataLogic:
    """Registers data sets for the Sample Data panel, and fetches them."""

    def __init__(self, logMessage: Callable | None = None) -> None:
        if logMessage is not None:
            self.logMessage = logMessage

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        _categories()[category] = {"title": title}

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Callable | None = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: dict | None = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
            loadFiles=loadFiles,
            loadFileProperties=loadFileProperties,
            checksums=checksums,
            loadFileType=loadFileType,
        )
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if not SampleDataLogic.isSampleDataSourceRegistered(category, source):
            sources.append(source)

    @staticmethod
    def categoryTitle(category: str) -> str:
        return _categories().get(category, {}).get("title", category)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        every = slicer.modules.sampleDataSources
        return every if category is None else every.get(category, [])

    @staticmethod
    def isSampleDataSourceRegistered(category: str, sampleDataSource: SampleDataSource) -> bool:
        if not isinstance(sampleDataSource, SampleDataSource):
            message = f"unsupported sampleDataSource type '{type(sampleDataSource)}': '{SampleDataSource}' is expected"
            raise TypeError(message)
        return sampleDataSource in slicer.modules.sampleDataSources.get(category, [])

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        every = slicer.modules.sampleDataSources.values()
        return next((s for sources in every for s in sources if s.sampleName == sampleName), None)

    def categoryForSource(self, a_source: SampleDataSource) -> str | None:
        return next((c for c, sources in slicer.modules.sampleDataSources.items() if a_source in sources), None)

    def downloadFileIntoCache(
        self, uri: str, name: str, checksum: str | None = None, forceDownload: bool = False
    ) -> str:
        folder = Path(slicer.app.cachePath)
        target = folder / name
        if forceDownload or not target.is_file():
            parts = urllib.parse.urlparse(uri)
            if parts.scheme != "file":
                message = f"the stand-in has no network: {uri}"
                raise NotImplementedError(message)
            shutil.copyfile(urllib.request.url2pathname(parts.path), target)
        if checksum is not None:
            algorithm, digest = slicer.util.extractAlgoAndDigest(checksum)
            if slicer.util.computeChecksum(algorithm, str(target)) != digest:
                target.unlink()
                message = f"{name} is not the file that was expected: its {algorithm} differs"
                raise ValueError(message)
        return str(target)

    def downloadFromSource(
        self,
        source: SampleDataSource,
        maximumAttemptsCount: int = 3,  # noqa: ARG002 - a local file is there at once or never
        forceDownload: bool = False,
    ) -> list:
        """The loaded nodes, or the paths of the files when nothing is loaded."""
        nodes, paths = [], []
        fields = (
            source.uris,
            source.fileNames,
            source.nodeNames,
            source.checksums,
            source.loadFiles,
            source.loadFileTypes,
        )
        for uri, name, node_name, checksum, load, kind in zip(*fields, strict=True):
            path = self.downloadFileIntoCache(uri, name or Path(uri).name, checksum, forceDownload)
            paths.append(path)
            if load is False or kind == "SceneFile":
                continue
            properties = {**source.loadFileProperties, "name": node_name or Path(path).name.split(".")[0]}
            nodes.append(slicer.util.loadNodeFromFile(path, kind, properties))
        return nodes or paths

    def downloadFromURL(
        self,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Callable | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: dict | None = None,
        forceDownload: bool = False,
    ) -> list:
        source = SampleDataSource(
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            checksums=checksums,
            loadFiles=loadFiles,
            customDownloader=customDownloader,
            loadFileTypes=loadFileTypes,
            loadFileProperties=loadFileProperties,
        )
        return self.downloadFromSource(source, forceDownload=forceDownload)

    def downloadSamples(self, sampleName: str) -> list:
        source = self.sourceForSampleName(sampleName)
        return self.downloadFromSource(source) if source is not None else []

    def downloadSample(self, sampleName: str) -> Any:
        return self.downloadSamples(sampleName)[0]

    def logMessage(self, message: str, logLevel: int = logging.DEBUG) -> None:
        logging.getLogger(__name__).log(logLevel, message)


def _categories() -> dict:
    if not hasattr(slicer.modules, "sampleDataSourceCategories"):
        slicer.modules.sampleDataSourceCategories = {}
    return slicer.modules.sampleDataSourceCategories


def downloadSample(sampleName: str) -> Any:
    return SampleDataLogic().downloadSample(sampleName)


def downloadSamples(sampleName: str) -> list:
    return SampleDataLogic().downloadSamples(sampleName)


def downloadFromURL(*arguments: Any, **keywords: Any) -> list:
    return SampleDataLogic().downloadFromURL(*arguments, **keywords)


def install() -> None:
    """What the module does when the application loads it."""
    slicer.modules.sampleDataSources = {}
