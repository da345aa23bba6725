"""refenc.py - makes frames and compressed files by hand, for tests: docs/format.md in the other direction.

Every length and checksum is computed last, over whatever the test put into the fields, so that a frame can be hostile
and still carry valid checksums.  A field set to None gets the right value; any other value is written as it is.
"""
import struct
import subprocess

import numpy as np

import refdec



def frame(codec, dtype, dims, codec_part, tiles=(), *, magic=b"VCLF", version=0, rank=None, flags=0, H=None, F=None,
          padding=0, header_hash=None, table=None):
    """tiles: (stored bytes, hash32 of the decoded bytes).  table: bytes in place of the tile table."""
    dtype = refdec.CODES[dtype] if isinstance(dtype, str) else dtype
    if table is None:
        table = b"".join(struct.pack("<III", len(stored), refdec.hash32(stored), h) for stored, h in tiles)
    rest = struct.pack(f"<{len(dims)}Q", *dims) + codec_part + table
    body = b"".join(stored for stored, _ in tiles)
    header_bytes = 24 + len(rest) + 4
    pad = -(header_bytes + len(body)) % 8
    fixed = struct.pack("<4sBBBBIIQ", magic, version, codec, dtype, len(dims) if rank is None else rank, flags,
                        header_bytes if H is None else H, header_bytes + len(body) + pad if F is None else F)
    digest = refdec.hash32(fixed + rest) if header_hash is None else header_hash
    return fixed + rest + struct.pack("<I", digest) + body + bytes([padding]) * pad


def alias(dtype, dims, target, **fields):
    name = target if isinstance(target, bytes) else target.encode("utf-8")
    return frame(refdec.ALIAS, dtype, dims, alias_part(len(name), name), **fields)


def alias_part(length, name, filler=0):
    return struct.pack("<I", length) + name + bytes([filler]) * (-len(name) % 8)


def cut(values, rows, cols, tile_rows, tile_cols, bits):
    """The tiles of a tensor's bytes, each row-major."""
    matrix = np.frombuffer(values, np.uint8).reshape(rows, cols * bits // 8)
    step = tile_cols * bits // 8
    return [matrix[r:r + tile_rows, c:c + step].tobytes() for r in range(0, rows, tile_rows)
            for c in range(0, matrix.shape[1], step)]


def exact(dtype, dims, values, *, cols=None, tile_rows=1, tile_cols=1 << 20, tiles=None, **fields):
    """values: the tensor's bytes.  tiles: in place of the right ones."""
    bits = refdec.BITS[dtype] if isinstance(dtype, str) else 8
    count = int(np.prod(dims, dtype=object))
    if cols is None:
        cols = count or 1
    if tiles is None:
        pieces = cut(values, count // cols, cols, tile_rows, tile_cols, bits) if count else []
        tiles = [(piece, refdec.hash32(piece)) for piece in pieces]
    return frame(refdec.EXACT, dtype, dims, struct.pack("<QII", cols, tile_rows, tile_cols), tiles, **fields)


def video_part(cols, tile_rows, tile_cols, *, depth=8, chroma=0, zero=0, step=1.0, snr=30.0, seed=0):
    return struct.pack("<QIIBBHffI", cols, tile_rows, tile_cols, depth, chroma, zero, step, snr, seed)


def encode_picture(codec, samples, depth, chroma=0, quality=None):
    """One lossless intra picture (lossy with a quality, x264's and x265's QP) as an Annex B access unit."""
    height, width = samples.shape
    suffix = {8: "", 10: "10le", 12: "12le"}[depth]
    planes = [samples.astype(np.uint8 if depth == 8 else "<u2").tobytes()]
    if chroma:
        planes.append(np.full(height * width // 2, 1 << depth - 1, np.uint8 if depth == 8 else "<u2").tobytes())
    x265 = ("lossless=1" if quality is None else f"qp={quality}") + ":log-level=error:wpp=0:frame-threads=1:info=0"
    if width < 64 or height < 64:
        x265 += ":ctu=16"
    options = {refdec.H264: ["-c:v", "libx264", "-qp", str(quality or 0)],
               refdec.H265: ["-c:v", "libx265", "-x265-params", x265]}[codec]
    container = {refdec.H264: "h264", refdec.H265: "hevc"}[codec]
    run = subprocess.run(["ffmpeg", "-hide_banner", "-v", "error", "-nostdin", "-f", "rawvideo", "-pix_fmt",
                          ("yuv420p" if chroma else "gray") + suffix, "-s", f"{width}x{height}", "-i", "pipe:0",
                          *options, "-threads", "1", "-preset", "ultrafast", "-f", container, "pipe:1"],
                         input=b"".join(planes), capture_output=True, check=True)
    return run.stdout


def samples(rng, shape, depth):
    """Samples as a normal distribution gives them."""
    q = rng.normal(1 << depth - 1, 1 << depth - 4, shape).round()
    return np.clip(q, 0, (1 << depth) - 1).astype(int)


def lay_out(q, rows, cols, fill):
    """A tile's samples as its picture; unused samples are `fill`."""
    width, height, wrapped = refdec.picture_size(rows, cols)
    picture = np.full((height, width), fill, np.int32)
    if wrapped:
        picture.reshape(-1)[:rows * cols] = q.reshape(-1)
    else:
        picture[:rows, :cols] = q
    return picture


def runs(entries):
    """entries: (first, length, value's bytes)."""
    return struct.pack("<I", len(entries)) + b"".join(struct.pack("<II", f, n) + value for f, n, value in entries)


def video(codec, dtype, dims, q, *, cols=None, tile_rows=None, tile_cols=None, depth=8, chroma=0, quality=None,
          side=None, part=None, flags=0, picture=None, decoded_hash=None, **fields):
    """q: the samples, rows x cols.  side(tile number) gives the bytes before the stream; part: fields of video_part;
    picture(tile number, stream) replaces a stream.  The hash of the decoded values is refdec's unless given."""
    rows, cols = q.shape if cols is None else (q.size // cols, cols)
    q = q.reshape(rows, cols)
    tile_rows, tile_cols = tile_rows or rows, tile_cols or cols
    tiles = []
    for r in range(0, rows, tile_rows):
        for c in range(0, cols, tile_cols):
            tile = q[r:r + tile_rows, c:c + tile_cols]
            samples = lay_out(tile, *tile.shape, 1 << depth - 1)
            stream = encode_picture(codec, samples, depth, chroma, quality)
            stream = picture(len(tiles), stream) if picture else stream
            tiles.append(((side(len(tiles)) if side else b"") + stream, tile.shape))
    header = video_part(cols, tile_rows, tile_cols, **{"depth": depth, "chroma": chroma, **(part or {})})
    make = lambda hashes: frame(codec, dtype, dims, header, [(s, h) for (s, _), h in zip(tiles, hashes)], flags=flags,
                                **fields)
    if decoded_hash is not None:
        return make([decoded_hash] * len(tiles))
    parsed = refdec.Frame(make([0] * len(tiles)))
    return make([refdec.hash32(refdec.decode_video_tile(parsed, stored, *shape)) for stored, shape in tiles])


# ---- containers --------------------------------------------------------------------------------------------------

def container(frames, metadata=None, hash_text=None):
    """frames: [(name, frame)].  The bytes of a compressed file."""
    metadata, tensors, at = dict(metadata or {}), [], 0
    for name, data in frames:
        tensors.append((name, "U8", (len(data),), at, at + len(data)))
        at += len(data)
    metadata["vcllm.hash"] = hash_text or refdec.container_hash(metadata, tensors)
    header = refdec.canonical_header(metadata, tensors)
    return struct.pack("<Q", len(header)) + header + b"".join(data for _, data in frames)


def plain(tensors, metadata=None):
    """tensors: [(name, dtype, shape, bytes)].  The bytes of a plain safetensors file with the canonical header."""
    entries, at = [], 0
    for name, dtype, shape, data in tensors:
        entries.append((name, dtype, shape, at, at + len(data)))
        at += len(data)
    header = refdec.canonical_header(metadata, entries)
    return struct.pack("<Q", len(header)) + header + b"".join(tensor[3] for tensor in tensors)
