"""The two Triton kernels of ``triton.py`` and what they are made of.

Shapes: a block of originals P (LP, CP, BLOCK), a map z (CP, BLOCK); LP and CP are L and C padded to powers of two.
"""

import triton
import triton.language as tl


@triton.jit
def _read(maps, image, pixel, inside, scale, c, N, L: tl.constexpr, C: tl.constexpr, T: tl.constexpr):
    """Read the originals as (LP, CP, BLOCK); 0 where a pixel does not count, a class or a scale is padding."""
    at = (image * C + c[:, None]) * N + pixel[None, :]
    wanted = (c[:, None] < C) & inside[None, :]
    block = tl.zeros((scale.shape[0], c.shape[0], pixel.shape[0]), T)
    for i in tl.static_range(L):
        row = tl.load(maps[i] + at, mask=wanted, other=0.0).to(T)
        block = tl.where(scale[:, None, None] == i, row[None], block)
    return block


@triton.jit
def _only(block, scale, i):
    """Take scale i out of a block (LP, CP, BLOCK)."""
    return tl.sum(tl.where(scale[:, None, None] == i, block, 0.0), 0)


@triton.jit
def _linear(P, member, factor):
    return tl.sum(tl.where(member[:, None, None] > 0, P * factor[:, None, None], 0.0), 0)


@triton.jit
def _product(P, scale, member):
    running = tl.cumprod(tl.where(member[:, None, None] > 0, P, 1.0), 0)  # the interpreter has no fast plain product
    return _only(running, scale, scale.shape[0] - 1)


@triton.jit
def _largest(P, member):
    """Return the maximum over the members; NaN if one is, as ``torch.maximum`` does."""
    counted = tl.where(member[:, None, None] > 0, P, float("-inf"))
    bad = tl.max(tl.where(counted != counted, 1, 0), 0)
    return tl.where(bad > 0, float("nan"), tl.max(counted, 0))


@triton.jit
def _gates(P, member, w, bias):
    """Return attention's gates (LP, BLOCK), 0 for scales that are no members."""
    scores = tl.sum(P * w[:, :, None], 1) + bias[:, None]
    scores = tl.where(member[:, None] > 0, scores, float("-inf"))
    bad = tl.max(tl.where(scores != scores, 1, 0), 0)
    e = tl.exp(scores - tl.max(scores, 0)[None, :])
    gates = e / tl.sum(e, 0)[None, :]
    return tl.where(bad[None, :] > 0, float("nan"), gates)


@triton.jit
def _labels(labels, image, pixel, c, N, ignored, C: tl.constexpr, SIGMOID: tl.constexpr):
    """Read what is true (CP, BLOCK), and which pixels count (BLOCK); nothing is true of the others."""
    if SIGMOID:
        padding = c[:, None] >= C
        at = (image * C + c[:, None]) * N + pixel[None, :]
        label = tl.load(labels + at, mask=(pixel < N)[None, :] & (c[:, None] < C), other=0)
        good = padding | ((label >= 0) & (label < 2) & (label != ignored))
        valid = (tl.min(tl.where(good, 1, 0), 0) > 0) & (pixel < N)
        return (label == 1) & (c[:, None] < C) & valid[None, :], valid
    else:  # noqa: RET505 — Triton drops the branch that is not taken only so
        label = tl.load(labels + image * N + pixel, mask=pixel < N, other=-1)
        valid = (label >= 0) & (label < C) & (label != ignored) & (pixel < N)
        return (c[:, None] == label[None, :]) & valid[None, :], valid


@triton.jit
def _weights(weights, truth, c, C: tl.constexpr, SIGMOID: tl.constexpr):
    """Return the weight of each cross-entropy: of a pixel (BLOCK), with a sigmoid of each channel (CP, BLOCK)."""
    w = tl.load(weights + c, mask=c < C, other=0.0)
    if SIGMOID:
        return tl.where(truth, w[:, None], 1.0)
    else:  # noqa: RET505
        return tl.sum(tl.where(truth, w[:, None], 0.0), 0)


@triton.jit
def _probabilities(z, c, valid, C: tl.constexpr, SIGMOID: tl.constexpr):
    """Return p (CP, BLOCK), 0 where a pixel does not count, z − max and the normaliser; sigmoid: σ, z, 1 + e."""
    if SIGMOID:
        e = tl.exp(-tl.abs(z))
        p = tl.where(z > 0, 1.0, e) / (1.0 + e)
        p = tl.where(z != z, z, p)
        return tl.where((c[:, None] < C) & valid[None, :], p, 0.0), z, 1.0 + e
    else:  # noqa: RET505
        z = tl.where(c[:, None] < C, z, float("-inf"))
        d = z - tl.max(z, 0)[None, :]
        e = tl.exp(d)
        total = tl.sum(e, 0)
        return tl.where(valid[None, :], e / total[None, :], 0.0), d, total


@triton.jit
def _add_losses(
    z, index, c, truth, valid, weight, row, m,
    C: tl.constexpr, SIGMOID: tl.constexpr, SQUARES: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Add a map's sums over the tile to the program's row."""
    p, d, total = _probabilities(z, c, valid, C, SIGMOID)
    if SIGMOID:
        rest = tl.where(truth, 0.0, 1.0) * z  # the terms of torch's: what is infinite there is infinite here
        each = tl.log(total) + rest - tl.where(z > 0, 0.0, z)
        if WEIGHTED:
            each *= weight
        ce = tl.sum(tl.where(c[:, None] < C, each, 0.0), 0)
    else:
        ce = tl.log(total) - tl.sum(tl.where(truth, d, 0.0), 0)
        if WEIGHTED:
            ce *= weight
    tl.atomic_add(row + index, tl.sum(tl.where(valid, ce, 0.0)).to(tl.float64))
    at = row + m + index * C + c
    shared = tl.sum(tl.where(truth, p, 0.0), 1)
    tl.atomic_add(at, shared.to(tl.float64), mask=c < C)
    tl.atomic_add(at + m * C, tl.sum(p * p if SQUARES else p, 1).to(tl.float64), mask=c < C)


@triton.jit
def _adjoint(
    z, index, c, truth, valid, weight, a, b, g,
    C: tl.constexpr, SIGMOID: tl.constexpr, SQUARES: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Return the gradient of the total with respect to a map's logits (CP, BLOCK)."""
    p, _d, _total = _probabilities(z, c, valid, C, SIGMOID)
    y = tl.where(truth, 1.0, 0.0).to(p.dtype)
    a_row = tl.load(a + index * C + c, mask=c < C, other=0.0)
    b_row = tl.load(b + index * C + c, mask=c < C, other=0.0)
    slope = tl.load(g + index)
    pull = (a_row[:, None] * p if SQUARES else a_row[:, None]) - b_row[:, None] * y
    gain = slope
    if WEIGHTED:
        gain = slope * weight if SIGMOID else (slope * weight)[None, :]
    if SIGMOID:
        return pull * p * (1.0 - p) + gain * (p - y)
    else:  # noqa: RET505
        return p * (pull - tl.sum(p * pull, 0)[None, :]) + gain * (p - y)  # 0 to the last bit where p is y


@triton.jit
def _concat(P, scale, dense, member, k, LP: tl.constexpr, L: tl.constexpr, CP: tl.constexpr):
    c = tl.arange(0, CP)
    z = tl.zeros((CP, P.shape[2]), P.dtype)
    for i in range(L):
        if tl.load(member + i) > 0:
            w = tl.load(dense + ((k * LP + i) * CP + c[:, None]) * CP + c[None, :])
            z += tl.dot(w, _only(P, scale, i), input_precision="ieee", out_dtype=P.dtype)
    return z


@triton.jit
def forward(
    M0, M1, M2, M3, M4, M5, labels, weights, order, members, factors, dense, N, per_image, tiles, ignored,
    n_linear, n_mul, n_max, n_attention, n_concat, rows, m, batch,
    L: tl.constexpr, LP: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, BLOCK: tl.constexpr,
    SIGMOID: tl.constexpr, SQUARES: tl.constexpr, PER_IMAGE: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Pass 1: add the sums of every map to the program's row of ``rows``."""
    scale, c, lane = tl.arange(0, LP), tl.arange(0, CP), tl.arange(0, BLOCK)
    T = dense.dtype.element_ty
    size = m * (2 * C + 1) + C + 1
    first = rows + tl.program_id(0).to(tl.int64) * size * (batch if PER_IMAGE else 1)
    cat, bias = dense + n_attention * LP * (CP + 1), dense + n_attention * LP * (CP + 1) + n_concat * LP * CP * CP
    for tile in range(tl.program_id(0).to(tl.int64), tiles, tl.num_programs(0)):  # 64 bits: tiles may be many
        image, pixel = tile // per_image, (tile % per_image) * BLOCK + lane
        truth, valid = _labels(labels, image, pixel, c, N, ignored, C, SIGMOID)
        weight = _weights(weights, truth, c, C, SIGMOID)
        P = _read((M0, M1, M2, M3, M4, M5), image, pixel, valid, scale, c, N, L, C, T)
        row = first + (image * size if PER_IMAGE else 0)
        counts = row + m * (2 * C + 1)
        tl.atomic_add(counts + c, tl.sum(tl.where(truth, 1.0, 0.0), 1).to(tl.float64), mask=c < C)
        tl.atomic_add(counts + C, tl.sum(tl.where(valid, 1.0, 0.0)).to(tl.float64))
        for k in range(n_linear):
            member, factor = tl.load(members + k * LP + scale), tl.load(factors + k * LP + scale).to(T)
            z = _linear(P, member, factor)
            _add_losses(z, tl.load(order + k), c, truth, valid, weight, row, m, C, SIGMOID, SQUARES, WEIGHTED)
        at = n_linear
        for k in range(at, at + n_mul):
            z = _product(P, scale, tl.load(members + k * LP + scale))
            _add_losses(z, tl.load(order + k), c, truth, valid, weight, row, m, C, SIGMOID, SQUARES, WEIGHTED)
        at += n_mul
        for k in range(at, at + n_max):
            z = _largest(P, tl.load(members + k * LP + scale))
            _add_losses(z, tl.load(order + k), c, truth, valid, weight, row, m, C, SIGMOID, SQUARES, WEIGHTED)
        at += n_max
        for k in range(n_attention):
            member, own = tl.load(members + (at + k) * LP + scale), dense + (k * LP + scale) * (CP + 1)
            gates = _gates(P, member, tl.load(own[:, None] + c[None, :]), tl.load(own + CP))
            z = tl.sum(tl.where(member[:, None, None] > 0, gates[:, None, :] * P, 0.0), 0)
            _add_losses(z, tl.load(order + at + k), c, truth, valid, weight, row, m, C, SIGMOID, SQUARES, WEIGHTED)
        at += n_attention
        for k in range(n_concat):
            z = _concat(P, scale, cat, members + (at + k) * LP, k, LP, L, CP) + tl.load(bias + k * CP + c)[:, None]
            _add_losses(z, tl.load(order + at + k), c, truth, valid, weight, row, m, C, SIGMOID, SQUARES, WEIGHTED)


@triton.jit
def backward(
    M0, M1, M2, M3, M4, M5, labels, weights, order, members, factors, dense, N, per_image, tiles, ignored,
    n_linear, n_mul, n_max, n_attention, n_concat, a, b, g, m, G0, G1, G2, G3, G4, G5, rows, learned,
    L: tl.constexpr, LP: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, BLOCK: tl.constexpr,
    SIGMOID: tl.constexpr, SQUARES: tl.constexpr, PER_IMAGE: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Pass 2: store the gradients of the originals, add those of the parameters to the program's row of ``rows``."""
    scale, c, lane = tl.arange(0, LP), tl.arange(0, CP), tl.arange(0, BLOCK)
    T = dense.dtype.element_ty
    row = rows + tl.program_id(0).to(tl.int64) * learned
    to_cat, to_bias = n_attention * LP * (CP + 1), n_attention * LP * (CP + 1) + n_concat * LP * CP * CP
    for tile in range(tl.program_id(0).to(tl.int64), tiles, tl.num_programs(0)):  # 64 bits: tiles may be many
        image, pixel = tile // per_image, (tile % per_image) * BLOCK + lane
        truth, valid = _labels(labels, image, pixel, c, N, ignored, C, SIGMOID)
        a_own, b_own = a + (image * m * C if PER_IMAGE else 0), b + (image * m * C if PER_IMAGE else 0)
        weight = _weights(weights, truth, c, C, SIGMOID)
        P = _read((M0, M1, M2, M3, M4, M5), image, pixel, valid, scale, c, N, L, C, T)
        G = tl.zeros((LP, CP, BLOCK), T)
        for k in range(n_linear):
            member, factor = tl.load(members + k * LP + scale), tl.load(factors + k * LP + scale).to(T)
            z = _linear(P, member, factor)
            d = _adjoint(z, tl.load(order + k), c, truth, valid, weight, a_own, b_own, g, C, SIGMOID, SQUARES, WEIGHTED)
            G += tl.where(member[:, None, None] > 0, factor[:, None, None] * d[None], 0.0)
        at = n_linear
        for k in range(at, at + n_mul):
            member = tl.load(members + k * LP + scale)
            z = _product(P, scale, member)
            d = _adjoint(z, tl.load(order + k), c, truth, valid, weight, a_own, b_own, g, C, SIGMOID, SQUARES, WEIGHTED)
            for i in range(L):
                others = _product(P, scale, tl.where(scale == i, 0, member))
                G += tl.where(((scale == i) & (member > 0))[:, None, None], (d * others)[None], 0.0)
        at += n_mul
        for k in range(at, at + n_max):
            member = tl.load(members + k * LP + scale)
            z = _largest(P, member)
            d = _adjoint(z, tl.load(order + k), c, truth, valid, weight, a_own, b_own, g, C, SIGMOID, SQUARES, WEIGHTED)
            for last in range(L):  # ties share in halves, of NaN both get it all, as torch.maximum does
                i = L - 1 - last
                if tl.load(members + k * LP + i) > 0:
                    before, own = _largest(P, tl.where(scale < i, member, 0)), _only(P, scale, i)
                    shared = tl.where(own == before, 0.5 * d, d)
                    won = tl.where(before > own, 0.0, shared)
                    G += tl.where(scale[:, None, None] == i, won[None], 0.0)
                    d = tl.where(before < own, 0.0, shared)
        at += n_max
        for k in range(n_attention):
            place = (k * LP + scale) * (CP + 1)
            member, w = tl.load(members + (at + k) * LP + scale), tl.load(dense + place[:, None] + c[None, :])
            gates = _gates(P, member, w, tl.load(dense + place + CP))
            z = tl.sum(tl.where(member[:, None, None] > 0, gates[:, None, :] * P, 0.0), 0)
            d = _adjoint(
                z, tl.load(order + at + k), c, truth, valid, weight, a_own, b_own, g, C, SIGMOID, SQUARES, WEIGHTED
            )
            pull = tl.where(member[:, None] > 0, tl.sum(d[None] * P, 1), 0.0)
            slope = gates * (pull - tl.sum(gates * pull, 0)[None, :])
            back = gates[:, None, :] * d[None] + slope[:, None, :] * w[:, :, None]
            G += tl.where(member[:, None, None] > 0, back, 0.0)
            inside = (member > 0)[:, None] & (c[None, :] < C)
            tl.atomic_add(row + place[:, None] + c[None, :], tl.sum(slope[:, None, :] * P, 2), mask=inside)
            tl.atomic_add(row + place + CP, tl.sum(slope, 1), mask=member > 0)
        at += n_attention
        for k in range(n_concat):
            own, bias = members + (at + k) * LP, tl.load(dense + to_bias + k * CP + c)
            z = _concat(P, scale, dense + to_cat, own, k, LP, L, CP) + bias[:, None]
            d = _adjoint(
                z, tl.load(order + at + k), c, truth, valid, weight, a_own, b_own, g, C, SIGMOID, SQUARES, WEIGHTED
            )
            tl.atomic_add(row + to_bias + k * CP + c, tl.sum(d, 1), mask=c < C)
            for i in range(L):
                if tl.load(own + i) > 0:
                    place = to_cat + ((k * LP + i) * CP + c[:, None]) * CP + c[None, :]
                    w = tl.load(dense + place)
                    back = tl.dot(tl.trans(w), d, input_precision="ieee", out_dtype=T)
                    G += tl.where(scale[:, None, None] == i, back[None], 0.0)
                    pair = tl.dot(d, tl.trans(_only(P, scale, i)), input_precision="ieee", out_dtype=T)
                    tl.atomic_add(row + place, pair, mask=(c[:, None] < C) & (c[None, :] < C))
        grads = (G0, G1, G2, G3, G4, G5)
        for i in tl.static_range(L):
            to = grads[i] + (image * C + c[:, None]) * N + pixel[None, :]
            own = tl.where(valid[None, :], _only(G, scale, i), 0.0)  # even where other pixels made the loss NaN
            tl.store(to, own.to(grads[i].dtype.element_ty), mask=(c[:, None] < C) & (pixel < N)[None, :])
