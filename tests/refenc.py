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


def fold(x, dtype, base=None):
    """The inverse of refdec.unfold."""
    n = 8 * x.dtype.itemsize
    mask = (1 << n) - 1
    if base is not None:
        low = (1 << n - 9) - 1
        u = [(v << 1 | v >> n - 1) & mask for v in x.tolist()]
        u = [v - (base << n - 8) if v >> n - 8 else v for v in u]
        return np.array([(v & ~low) << 1 | v & low for v in u], x.dtype)
    if dtype in ("F16", "BF16", "F32", "C64", "F64"):
        return np.array([(v << 1 | v >> n - 1) & mask for v in x.tolist()], x.dtype)
    if dtype in ("I16", "I32", "I64"):
        return np.array([(v << 1 & mask) ^ mask * (v >> n - 1) for v in x.tolist()], x.dtype)
    return x


def frequencies_of(data):
    """Some frequencies that serve these bytes."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    if np.count_nonzero(counts) < 2:
        counts[[0, 1]] += 1
    f = np.where(counts, 1 + counts * (4096 - np.count_nonzero(counts)) // counts.sum(), 0)
    f[f.argmax()] += 4096 - f.sum()
    return f.tolist()


def table(frequencies):
    used = [s for s, f in enumerate(frequencies) if f]
    number, bit = 0, 0
    for f in frequencies[used[0]:used[-1] + 1]:
        m = f.bit_length()
        number |= (m | (f - (1 << m - 1) << 4 if m else 0)) << bit
        bit += 4 + max(m - 1, 0)
    return bytes([used[0], used[-1]]) + number.to_bytes(refdec.ceil_div(bit, 8), "little")


def rans(data, bits=0, classes=None, frequencies=None):
    """A plane's rANS form; classes: of the blocks; frequencies: of the classes."""
    n, blocks = len(data), refdec.ceil_div(len(data), 256)
    classes = classes or [0] * blocks
    frequencies = frequencies or [frequencies_of(b"".join(data[256 * b:256 * b + 256] for b in range(blocks)
                                                           if classes[b] == c)) for c in range(1 << bits)]
    lanes = 4 if n < 4096 else 32
    states, words = [1 << 16] * lanes, []
    for i in reversed(range(n)):
        f = frequencies[classes[i // 256]]
        start, x = sum(f[:data[i]]), states[i % lanes]
        if x >= f[data[i]] << 20:
            words.append(x & 0xFFFF)
            x >>= 16
        states[i % lanes] = (x // f[data[i]] << 12) + x % f[data[i]] + start
    class_map = sum(c << bits * b for b, c in enumerate(classes)).to_bytes(refdec.ceil_div(blocks * bits, 8), "little")
    body = (bytes([bits]) + class_map + b"".join(map(table, frequencies)) + struct.pack(f"<{lanes}I", *states)
            + struct.pack(f"<{len(words)}H", *reversed(words)))
    return b"\3" + struct.pack("<I", len(body)) + body


def packed(data):
    whole = len(data) // 512 * 512
    groups = np.frombuffer(data[:whole], np.uint8).reshape(-1, 8, 64)
    bits = groups[:, 7:] >> np.arange(7, dtype=np.uint8)[:, None] & 1
    return b"\2" + (groups[:, :7] | bits << 7).tobytes() + data[whole:]


def lossless_tile(dtype, values, planes, base=None):
    """planes: for each plane, first the highest, the function that codes it."""
    width = refdec.number_bytes(dtype)
    y = fold(np.frombuffer(values, f"<u{width}"), dtype, base)
    out = b"\1" if base is None else bytes([2, base])
    for p, code in enumerate(planes):
        out += code((y >> y.dtype.type(8 * (width - 1 - p)) & y.dtype.type(255)).astype(np.uint8).tobytes())
    return out


def levels_tile(codes, levels, *, bits=8, count=None, rounding=0, group=0, first=0, scales=b"", offsets=b"",
                aside=None, literals=b"", plane=lambda data: b"\0" + data, mode=None):
    """A tile of mode 3, or 4 where there are offsets.  levels: an array of numbers or f32; scales, offsets, literals:
    tiles; plane: the function that codes the codes' plane.  aside: number of literals, in place of the right one."""
    count = len(levels) if count is None else count
    each = 8 // bits
    padded = np.append(codes, np.zeros(-len(codes) % each, np.int64)).reshape(-1, each)
    packed = (padded << np.arange(0, 8, bits)).sum(1).astype(np.uint8).tobytes()
    aside = int((codes == count).sum()) if aside is None else aside
    mode = (4 if offsets else 3) if mode is None else mode
    head = struct.pack("<BBBBIII", mode, bits, count, rounding, group, first, aside)
    return head + levels.tobytes() + scales + offsets + literals + plane(packed)


def lossless(dtype, dims, values, tile, **fields):
    """One tile of these stored bytes."""
    count = int(np.prod(dims, dtype=object))
    return frame(refdec.LOSSLESS, dtype, dims, struct.pack("<QII", count, 1, 1 << 20),
                 [(tile, refdec.hash32(values))], **fields)


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
    return make([refdec.hash32(refdec.decode_lossy_tile(parsed, stored, *shape, 0)) for stored, shape in tiles])


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
