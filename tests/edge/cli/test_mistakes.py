"""Mistakes of the first days: each ends with one line that says what is wrong, what was expected, what to do."""

from __future__ import annotations

import pytest

from support.commands import rrid_edge
from support.mistakes import desk, ends_with

__all__ = ["desk"]
PICTURES = "JPEG, PNG, BMP, WebP, TIFF, PPM (PGM, PBM) or GIF"
HOW_MADE = "make one with: rrid-edge export CHECKPOINT, or rrid-edge adopt FILE for a network of another program"
EXPORTED = "export it with: rrid-edge export CHECKPOINT, or rrid-edge adopt FILE for a network of another program"
GALLERY = "the last argument is the gallery: a folder of crops, or milvus+http://HOST:19530/COLLECTION"
TIMES = (
    "expected ISO 8601 such as 2026-11-25T17:30:15+01:00, a date such as 2026-11-25, a duration before now such as "
    "30m, 2h or 7d, or a frame number"
)
FORMS = (
    "neither the RRID layout (meta.json) nor a Market-1501-style folder (bounding_box_train, query, "
    "bounding_box_test), MSMT17, VIPeR or PRID 2011"
)

MATCH = {
    "gallery query.jpg": (
        "query.jpg: this is a file; expected the query first and the gallery last: rrid-edge match query.jpg gallery"
    ),
    "query.jpg": "match needs a query and a gallery: rrid-edge match query.jpg gallery/",
    "nowhere.jpg gallery": "nowhere.jpg: no such file; expected an image, for example a JPEG crop of one person",
    "query.jpg nowhere": f"nowhere: no such folder; {GALLERY}",
    "query.jpg note.txt": f"note.txt: this is a file; {GALLERY}",
    "query.jpg empty": f"empty: no images in it; give a folder of crops: {PICTURES}",
    "empty gallery": "empty: no images in it; give query images",
    "query.jpg gallery gallery": (
        "gallery: this folder is given beside files; expected image files of one person, or folders of queries, and "
        "one gallery after them"
    ),
    "https://example.com/a.jpg gallery": (
        "an address of the web is given as a query; expected image files: download it first"
    ),
    "query.jpg https://example.com/g": (
        "https://example.com/g: not a location of a gallery; expected a folder or milvus+http://HOST:19530/COLLECTION"
    ),
    "query.jpg gallery --top-k 0": "top_k 0 does not work: expected at least 1 (option --top-k)",
    "query.jpg gallery --threshold 85": (
        "threshold 85.0 is not a cosine: expected a number from -1 to 1 (option --threshold)"
    ),
    "query.jpg gallery --since yesterday": f"'yesterday' is neither a time nor a frame: {TIMES} (option --since)",
    "query.jpg gallery --until 25.11.2026": f"'25.11.2026' is neither a time nor a frame: {TIMES} (option --until)",
    "query.jpg gallery --since 2h --until 3h": (
        "since '2h' is later than until '3h', so no crop fits; expected the earlier one first: exchange them "
        "(option --since, option --until)"
    ),
    "query.jpg gallery --fpir 0.01": (
        "models/rrid.thresholds.json: no thresholds of this network found; measure them with: rrid-edge evaluate "
        "MODEL --dataset DATASET"
    ),
    "query.jpg gallery --exclude-same-camera": (
        "query.jpg: the file name has no camera, so crops of the same camera cannot be excluded; rename the file "
        "(0002_c1s1_000451_03.jpg), give the pattern of its name, or include the same camera (option --pattern, "
        "option --exclude-same-camera)"
    ),
    "query.jpg gallery --sheet s.gif": (
        "s.gif: a contact sheet is an image; end its name in one of .jpeg, .jpg, .png, .webp"
    ),
    "query.jpg gallery --report r.pdf": "r.pdf: a report is a page of HTML; end its name in .html",
    "query.jpg gallery --report file/r.html": (
        "file/r.html: cannot be written (Not a directory); give a path on a writable file system with free space"
    ),
    "note.txt gallery": f"note.txt: not an image of a known format; expected {PICTURES}",
    "renamed.jpg gallery": f"renamed.jpg: not an image of a known format; expected {PICTURES}",
    "paper.pdf gallery": (f"paper.pdf: a PDF document, which is not read; expected {PICTURES}: convert or replace it"),
    "phone.heic gallery": (
        f"phone.heic: a HEIF picture (HEIC), which is not read; expected {PICTURES}: convert or replace it"
    ),
    "door.mp4 gallery": (
        f"door.mp4: a video (MP4 or QuickTime), which is not read; expected {PICTURES}: convert or replace it"
    ),
    "logo.svg gallery": f"logo.svg: an SVG drawing, which is not read; expected {PICTURES}: convert or replace it",
    "crops.zip gallery": f"crops.zip: a ZIP archive, which is not read; expected {PICTURES}: convert or replace it",
    "cut.jpg gallery": ("cut.jpg: damaged or truncated image (image file is truncated (...)); save or fetch it again"),
    "query.jpg gallery --sheet query.jpg": (
        "query.jpg: this is a query image, which the sheet would replace; give another path"
    ),
    "query.jpg gallery --sheet gallery/new/s.png": (
        "gallery/new/s.png: this lies in gallery, whose pictures are read: the next command would take the sheet for "
        "one; give a path outside of it"
    ),
    "query.jpg gallery --rerank --rerank-depth 0": (
        "a re-ranking depth of 0 crops does not work: expected at least 20 (option --rerank-depth)"
    ),
    "query.jpg gallery --rerank-depth 50": (
        "--rerank-depth changes nothing without --rerank: give both, or leave it out"
    ),
    "query.jpg gallery --runtime tensorrt": (
        "models/rrid.onnx: runtime tensorrt needs an engine file (.engine); choose the runtime auto, or another file "
        "(option --runtime)"
    ),
    "query.jpg gallery --runtime cuda": (
        "runtime 'cuda' is unknown: expected one of auto, tensorrt, tensorrt-rtx, onnxruntime-cuda, openvino, "
        "openvino-gpu, openvino-npu, onnxruntime (option --runtime)"
    ),
    "query.jpg gallery --threads -1": (
        "match: option --threads is '-1'; expected at least 0; see: rrid-edge match --help"
    ),
    r"C:\data\query.jpg gallery": (r"C:\data\query.jpg: no such file; expected a path with / between folders"),
    r"gallery\query.jpg gallery": (r"gallery\query.jpg: no such file; expected a path with / between folders"),
}
"""Arguments of ``match``, and the line. All end with code 2."""


@pytest.mark.parametrize(("words", "line"), MATCH.items(), ids=MATCH)
def test_match(desk, words, line):
    if "--exclude-same-camera" in words:  # found when the gallery is asked: its new crops are indexed by then
        assert rrid_edge("index", "gallery").code == 0
    ends_with(["match", *words.split()], 2, line)


OTHERS = {
    "index nowhere": (
        2,
        "nowhere: no such folder; give a folder of image files",
    ),
    "index query.jpg": (
        2,
        "query.jpg: this is a file, not a folder; give a folder of image files",
    ),
    "index crops.zip": (
        2,
        "crops.zip: this is a file, not a folder; give a folder of image files",
    ),
    "index empty": (
        2,
        f"empty: no images in it; give a folder of crops: {PICTURES}",
    ),
    "index gallery --model models": (
        2,
        "models: this is a folder (given); expected a model file; models holds rrid.onnx (option --model)",
    ),
    "index gallery --model empty": (
        2,
        "empty: this is a folder (given); expected a model file (option --model)",
    ),
    "index gallery --model models/rrid.int8.onnx": (
        2,
        f"models/rrid.int8.onnx: no such model file (given); models holds rrid.onnx; {HOW_MADE} (option --model)",
    ),
    "index gallery --model net.pth": (
        4,
        "net.pth: this is a checkpoint, not an ONNX file; make one with: rrid-edge export net.pth",
    ),
    "index gallery --model note.txt": (
        4,
        f"note.txt: this is a text file, not an ONNX file; {HOW_MADE}",
    ),
    "index gallery --model cut.onnx": (
        4,
        f"cut.onnx: not an ONNX file, or damaged (it ends 34,236 bytes too early); {EXPORTED}",
    ),
    "index gallery --pattern (": (
        2,
        "pattern '(' is not a regular expression (...); presets: "
        "market1501, dukemtmc, msmt17, veri776, cuhk03-np, mars, ilids-vid, prid2011, viper, cuhk03, rrid, "
        "person-folders, camera-folders, folders, none",
    ),
    "index renamed": (
        2,
        f"renamed: none of its 1 images could be read; give a folder of crops: {PICTURES}",
    ),
    "index renamed --gallery new/deep": (
        2,
        f"renamed: none of its 1 images could be read; give a folder of crops: {PICTURES}",
    ),
    "match query.jpg renamed": (
        2,
        f"renamed: none of its 1 images could be read; give a folder of crops: {PICTURES}",
    ),
    "index gallery --gallery file": (
        2,
        "file: this is a file; expected a folder for the index, or a new name (option --gallery)",
    ),
    "gallery copy gallery/.rrid-edge file": (
        4,
        "gallery/.rrid-edge: no index here; create one with: rrid-edge index FOLDER",
    ),
    "help --man file": (
        2,
        "file: this is a file; expected a folder for the man pages (option --man)",
    ),
    "help --man file/man": (
        2,
        "file/man: cannot be written (Not a directory); give a path on a writable file system with free space",
    ),
    "parity models/rrid.onnx --output models/rrid.onnx": (
        2,
        "models/rrid.onnx: a parity report is a JSON file; end its name in .json",
    ),
    "calibrate models/rrid.onnx --images gallery --output models/rrid.onnx": (
        2,
        "models/rrid.onnx: the int8 files would replace the float32 model models/rrid.onnx; give another name (option "
        "--output)",
    ),
    "calibrate models/rrid.onnx --images gallery --output new/int8.txt": (
        2,
        "new/int8.txt: an int8 model is an ONNX file; end its name in .onnx (option --output)",
    ),
    "index gallery --mode 999": (
        2,
        "permissions '999' do not work: expected three octal digits, the first of them 7, such as 750 (option --mode)",
    ),
    "index milvus+http://root:secret@localhost:1/people": (
        2,
        "the address of a gallery is given; expected the folder of its crops, and the address as the gallery: "
        "rrid-edge index crops/ --gallery milvus+http://HOST:19530/COLLECTION",
    ),
    "index gallery --gallery milvus://localhost:1/people": (
        2,
        "milvus://localhost:1/people: not a location of a gallery; expected a folder or "
        "milvus+http://HOST:19530/COLLECTION",
    ),
    "match query.jpg milvus+http://localhost:1/people": (
        4,
        "milvus+http://localhost:1/people: Milvus cannot be reached; start the server or correct the address",
    ),
    "gallery list nowhere": (
        4,
        "nowhere/.rrid-edge: no such folder, and no index here; create one with: rrid-edge index FOLDER",
    ),
    "gallery list gallery": (
        4,
        "gallery/.rrid-edge: no index here; create one with: rrid-edge index FOLDER",
    ),
    "gallery list query.jpg": (
        4,
        "query.jpg: this is a file; expected a folder that was indexed",
    ),
    "serve models/rrid.onnx": (
        4,
        "models/rrid.onnx: this is a file; expected a folder that was indexed",
    ),
    "doctor gallery": (
        2,
        "gallery: this is a folder; expected a model file (argument MODEL)",
    ),
    "embed-many --no-ray --input gallery --gallery gallery --model models/rrid.onnx": (
        2,
        "gallery: these are the crops, and the index would lie among them; give another folder for the index, or leave "
        "it out (option --gallery)",
    ),
    "gallery forget gallery": (
        4,
        "gallery/.rrid-edge: no index here; create one with: rrid-edge index FOLDER",
    ),
    "gallery copy gallery gallery": (
        2,
        "gallery: source and destination are the same gallery; name two galleries",
    ),
    "info nowhere.onnx": (
        2,
        f"nowhere.onnx: no such model file (given); this folder holds cut.onnx, other.onnx; {HOW_MADE} "
        "(argument MODEL)",
    ),
    "info query.jpg": (
        4,
        f"query.jpg: this is a JPEG picture, not an ONNX file; {HOW_MADE}",
    ),
    "parity models/rrid.onnx": (
        2,
        "models/rrid.goldens.npz: no such goldens file; write it beside the model with: rrid-edge export "
        "CHECKPOINT, or rrid-edge adopt FILE for a network of another program",
    ),
    "bench --model nowhere.onnx": (
        2,
        f"nowhere.onnx: no such model file (given); this folder holds cut.onnx, other.onnx; {HOW_MADE} (option "
        f"--model)",
    ),
    "evaluate models/rrid.onnx --dataset crops.zip": (
        2,
        "crops.zip: this is a file; expected the folder of a dataset: unpack an archive first",
    ),
    "evaluate models/rrid.onnx --dataset nowhere": (
        2,
        "nowhere: no such dataset folder; make one with rrid-edge demo-data, or give a folder in Market-1501 style",
    ),
    "evaluate models/rrid.onnx --dataset .": (
        2,
        f".: {FORMS}; give a folder that holds them, or make one with rrid-edge prepare (option --dataset-type)",
    ),
    "evaluate models/rrid.onnx --dataset data/market/query": (
        2,
        f"data/market/query: {FORMS}; the folder around it is a dataset: give data/market (option --dataset-type)",
    ),
    "prepare market1501 data out": (
        2,
        "data/bounding_box_train: this folder of the dataset is missing; expected it in data: the dataset "
        "lies lower: data/market",
    ),
    "prepare market1501 crops.zip out": (
        2,
        "crops.zip: this is a file; expected the folder of the original dataset: unpack an archive first",
    ),
    "prepare market1501 nowhere out": (
        2,
        "nowhere: no such folder; give the folder of the original dataset",
    ),
    "prepare market nowhere out": (
        2,
        "dataset kind 'market' is unknown: expected one of market1501, dukemtmc, cuhk03, msmt17, viper, "
        "prid2011, cuhk01, folders",
    ),
    "prepare folders gallery out": (
        2,
        "gallery: 0001_c1s1_000000_00.jpg lies in no person's folder (8 in all); expected one folder per person",
    ),
    "demo-data file": (
        2,
        "file: this is a file, expected a folder; give a new or empty folder",
    ),
    "demo-data gallery": (
        2,
        "gallery: this folder holds other files than demo data; give a new or empty folder",
    ),
    "train --dataset-path nowhere": (
        2,
        "nowhere: no such dataset folder; make one with rrid-edge demo-data, or give a folder in Market-1501 "
        "style (option --dataset-path)",
    ),
    "train --resume nowhere": (
        2,
        "nowhere/last.state.pt: no such training state; give the folder of a run, which holds last.state.pt "
        "(option --resume)",
    ),
    "export nowhere.pth": (
        2,
        "nowhere.pth: no such checkpoint; give a file of rrid-edge train or of the published training",
    ),
    "export net.pth": (
        4,
        "net.pth: not a PyTorch weight file, or damaged (the archive is damaged: ...); "
        "save it again with torch.save(model.state_dict(), ...)",
    ),
    "export query.jpg": (
        4,
        "query.jpg: this is a JPEG picture, not a checkpoint; expected weights of PyTorch: give a file of rrid-edge "
        "train or of the published training",
    ),
    "adopt nowhere.onnx --preset torchreid": (
        2,
        "nowhere.onnx: no such model file; give another one, or export the network again from its own program "
        "(argument MODEL)",
    ),
    "adopt net.pth --preset torchreid": (
        2,
        "net.pth: this is a checkpoint; adopt takes an ONNX file or an OpenVINO IR (.xml): export the network "
        "from its own program first (argument MODEL)",
    ),
    "adopt other.onnx --preset torchreid": (
        2,
        "other.onnx: this is a model of rrid-edge already; use it as it is (argument MODEL)",
    ),
    "calibrate nowhere.onnx --images gallery": (
        2,
        f"nowhere.onnx: no such model file; give another one, or {EXPORTED} (argument MODEL)",
    ),
    "calibrate models/rrid.onnx --images gallery": (
        4,
        "models/rrid.onnx: no convolution with constant weights: expected a convolutional network, whose "
        "layers int8 can store",
    ),
    "engine adopt models/rrid.onnx --onnx models/rrid.onnx": (
        2,
        "models/rrid.onnx: not the name of a TensorRT engine: expected the ending .engine or .plan; rename it",
    ),
    "serve nowhere": (
        4,
        "nowhere/.rrid-edge: no such folder, and no index here; create one with: rrid-edge index FOLDER",
    ),
    "serve gallery": (
        4,
        "gallery/.rrid-edge: no index here; create one with: rrid-edge index FOLDER",
    ),
    "serve gallery --host 0.0.0.0": (
        2,
        "host '0.0.0.0' without a token file: other machines could search for people; expected 127.0.0.1, or "
        "a token file (option --host, option --token-file)",
    ),
    "serve gallery --token-file file": (
        2,
        "file: others may read or change it (mode 0644); expected 0600: run chmod 600 on it (option --token-file)",
    ),
    "serve gallery --token-file nowhere": (
        2,
        "nowhere: No such file or directory; expected a file of tokens (option --token-file)",
    ),
    "serve gallery --port 70000": (
        2,
        "port 70000 does not work: expected 0 to 65535 (option --port)",
    ),
}
"""Commands, and their exit codes and lines."""


@pytest.mark.parametrize(("words", "expected"), OTHERS.items(), ids=OTHERS)
def test_other_commands(desk, words, expected):
    ends_with(words.split(), *expected)
