"""Members of a checkpoint, taken out and put back changed."""

import io
import json
import zipfile

import numpy as np


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, body in members.items():
            archive.writestr(name, body)


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def with_header(path, change):
    """Rewrite the header, changed by a function of its JSON object."""
    members = members_of(path)
    _, _, body = members["header.npy"].partition(b"\n")
    header = json.loads(body)
    header = change(header) or header
    members["header.npy"] = npy(np.frombuffer(json.dumps(header).encode(), np.uint8))
    write(path, members)
