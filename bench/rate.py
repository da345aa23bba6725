"""rate.py - table (a): error at equal bits, every codec and peer, on every kind of tensor."""
import peers
import tables
import vcllm
import video_peers
from curves import BITS, DB, best, prepare
from ours import point

MOST = 1 << 19      # values: enough for gaps of three digits, and veryslow is slow


def own(matrix, rates, **settings):
    """SNR at exactly these bits: what is written is up to 2 % less, and a bit is 6.02 dB."""
    result = []
    for rate in rates:
        try:
            result.append((rate - point(matrix, bits=rate, objective="mse", **settings)["gap"]) * DB)
        except vcllm.Error as error:    # one point that fails must not end the report
            print(f"{matrix.name}, {settings}, {rate} bits: {error}")
            result.append(None)
    return result


def peer(curves, rates):
    prepare(curves, BITS, rates)
    return [best(curves, BITS, rate) for rate in rates]


def video_coder(report, coders):
    return lambda m, rates: peer(video_peers.curves(report.cache, coders, m.values), rates)


def rounding(how):
    return lambda m, rates: peer([peers.rtn(video_peers.matrix_of(m.values), how)], rates)


def named_coders(report):
    """name: function of a matrix and rates, in the order of the table."""
    found = {f"tensor, effort {e}": lambda m, rates, e=e: own(m, rates, codec="tensor", effort=e)
             for e in report.efforts}
    if report.video:
        found["h265, effort 5"] = lambda m, rates: own(m, rates, codec="h265", effort=5)
        found["x265 medium, best of 8/10/12 bits"] = video_coder(report, video_peers.X265)
        found["x265 veryslow, 8 bits"] = video_coder(report, video_peers.X265_SLOW)
        found["x264 medium, 8 bits"] = video_coder(report, video_peers.X264)
    found["scalar, one step, ideal entropy"] = lambda m, rates: peer([peers.scalar(m.values)], rates)
    found["RTN per tensor, ideal entropy"] = rounding("tensor")
    found["RTN per row, ideal entropy"] = rounding("row")
    found[f"RTN per group of {peers.GROUP}, ideal entropy"] = rounding("group")
    if peers.zfp_is_there():
        found["zfp 2-D, fixed accuracy"] = lambda m, rates: peer([peers.zfp(video_peers.matrix_of(m.values))],
                                                                 rates)
    return found


def run(report):
    rates, coders = report.rates, named_coders(report)
    data = [m.cut(min(MOST, report.values)) for m in report.drawn() + report.chosen()]
    jobs = [(m, name) for m in data for name in coders]
    snr = report.each(lambda job: coders[job[1]](job[0], rates), jobs)
    rows, points = [], []
    for (matrix, name), values in zip(jobs, snr):
        if name == next(iter(coders)):
            rows.append(f"\n{matrix.name}, {' x '.join(map(str, matrix.raw.shape))} {matrix.dtype}")
        gaps = [v and b - v / DB for b, v in zip(rates, values)]
        rows.append([f"  {name}", *(f"{tables.figure(v, 2)} {tables.figure(g, 3)}"
                                    for v, g in zip(values, gaps))])
        points += [{"data": matrix.name, "coder": name, "bits": b, "snr": v, "gap": g}
                   for b, v, g in zip(rates, values, gaps)]
    tables.show("(a) Rate and error: SNR in dB, and gap = bits - SNR / 6.02, at equal bits (objective mse)",
                ["", *map(tables.rate, rates)], rows,
                f"Every byte counts. Tensors are cut to their first {MOST} values. Quantisers with ideal "
                "entropy are given what no coder has: no tables, no rounding to bytes. -: the coder has no "
                "such rate.")
    report.keep("rate", points)
