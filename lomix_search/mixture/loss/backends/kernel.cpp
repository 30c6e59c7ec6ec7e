// The mixture's losses on the CPU, in two passes over tiles of pixels. compiler.py compiles this, native.py calls it.
//
// A tile is TILE consecutive pixels of one image. All maps of a tile are built, used and forgotten while they are in
// the cache, so memory does not grow with the number of maps. Pass 1 adds up what cross-entropy and Dice need; pass 2
// builds every map again and walks back from its loss to the originals and the parameters. Pixels stand in vector
// lanes, so no sum runs across lanes inside the loops, and no flag that changes the meaning of NaN is needed.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace {

// Bytes of one vector: what the machine has. Compilers can split longer ones, but compare and choose lane by lane then,
// which makes all of this four times slower.
#if defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;  // SSE2, NEON
#endif
constexpr int TILE_BYTES = 256;  // of one row of a tile: 64 pixels in float, 32 in double

typedef float f32v __attribute__((vector_size(BYTES)));
typedef double f64v __attribute__((vector_size(BYTES)));
typedef int32_t i32v __attribute__((vector_size(BYTES)));
typedef int64_t i64v __attribute__((vector_size(BYTES)));

template <class S> struct Real;

template <> struct Real<float> {
  using V = f32v;
  using I = i32v;
  static constexpr int lanes = BYTES / 4, mantissa = 23, degree = 3;
  static constexpr float log2e = 1.44269504f, ln2 = 0.69314718f, low = -43.0f, tiny = 1.2e-38f;
  static constexpr float magic = 12582912.0f + 127.0f;  // 1.5·2²³ rounds to an integer; 127 is the exponent's bias
  static constexpr float c[] = {0.49999146265318839f, 0.16666458601945933f, 0.041898360355760077f,
                                0.0083745163708146917f};
};

template <> struct Real<double> {
  using V = f64v;
  using I = i64v;
  static constexpr int lanes = BYTES / 8, mantissa = 52, degree = 9;
  static constexpr double log2e = 1.4426950408889634, ln2 = 0.69314718055994531, low = -300.0, tiny = 2.3e-308;
  static constexpr double magic = 6755399441055744.0 + 1023.0;
  static constexpr double c[] = {0.49999999999999084,    0.1666666666666228,    0.041666666667195797,
                                 0.0083333333345971816,  0.0013888888804308864, 0.00019841268333127844,
                                 2.4801608524937707e-05, 2.7558110683794939e-06, 2.7596603286298846e-07,
                                 2.4923683731854628e-08};
};

// Returns b where either is NaN, like the instruction.
inline f32v larger(f32v a, f32v b) {
#if defined(__AVX__)
  return (f32v)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
inline f64v larger(f64v a, f64v b) {
#if defined(__AVX__)
  return (f64v)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return a > b ? a : b;
#endif
}

// e^d for d ≤ 0, to 1e-7 in float and 1e-15 in double; NaN stays NaN. Below `low` it is 0, so that squares of
// probabilities never become denormal, and a class at −inf has no part in anything.
template <class S, class V = typename Real<S>::V> inline V exp_down(V given) {
  using R = Real<S>;
  const V d = larger(V{} + R::low, given);
  const V t = d * R::log2e + R::magic;
  const V r = d - (t - R::magic) * R::ln2;
  V q = V{} + R::c[R::degree];
#pragma GCC unroll 16
  for (int i = R::degree - 1; i >= 0; --i) q = q * r + R::c[i];
  const V scale = (V)((typename R::I)t << R::mantissa);
  return given < R::low ? V{} : (q * (r * r) + r + 1) * scale;
}

// The logarithm of x ≥ 1, to 1e-8 in float and 1e-16 in double; NaN stays NaN. With x = 2^e·m and m near 1 it is
// e·ln 2 + 2·artanh((m − 1) / (m + 1)).
template <class S, class V = typename Real<S>::V> inline V log_up(V x) {
  using R = Real<S>;
  using I = typename R::I;
  constexpr int terms = R::mantissa == 23 ? 5 : 11;
  const I bits = (I)x, one = (I)(V{} + 1);
  const V raw = (V)((bits & ((((I)V{} + 1) << R::mantissa) - 1)) | one);
  const auto large = raw > S(1.41421356);
  const V m = large ? raw * S(0.5) : raw;
  const V e = __builtin_convertvector((bits >> R::mantissa) - (one >> R::mantissa), V) + (large ? V{} + 1 : V{});
  const V f = (m - 1) / (m + 1), s = f * f;
  V q = V{} + S(1) / (2 * terms - 1);
#pragma GCC unroll 16
  for (int i = terms - 2; i >= 0; --i) q = q * s + S(1) / (2 * i + 1);
  return e * R::ln2 + 2 * f * q + (x - x);
}

template <class S> inline double lane_sum(typename Real<S>::V v) {
  constexpr int n = Real<S>::lanes;
  S x[n];
  std::memcpy(x, &v, sizeof x);
  for (int half = n / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

// What python says is to be computed: ten numbers, two of them the bits of doubles, then nodes, then fusions (see
// kernel_plan.py).
struct TrieNode { int64_t kind, scale, depth, map; };
enum { ADD, MUL };
struct Fusion { int64_t kind, map, arity, params; const int64_t* scales; };
enum { SUB, AVG, MAX, CONCAT, ATTENTION };

struct KernelPlan {
  int64_t L, C;
  bool sigmoid;    // each channel is judged by itself, and has labels of its own
  bool squares;    // sums of p², not of p
  bool per_image;  // sums are those of each image
  int64_t m;
  double smoothing, gamma;  // of the cross-entropy: labels spread over the classes, the focal exponent; one of them is 0
  std::vector<TrieNode> nodes;  // two tries in preorder: every sum and product extends a smaller one
  std::vector<Fusion> fusions;
  explicit KernelPlan(const int64_t* code) : L(code[0]), C(code[1]), sigmoid(code[2]), squares(code[3]), per_image(code[4]), m(code[5]) {
    std::memcpy(&smoothing, code + 8, sizeof smoothing);
    std::memcpy(&gamma, code + 9, sizeof gamma);
    const int64_t* at = code + 10;
    for (int64_t i = 0; i < code[6]; ++i, at += 4) nodes.push_back({at[0], at[1], at[2], at[3]});
    for (int64_t i = 0; i < code[7]; ++i) {
      fusions.push_back({at[0], at[1], at[2], at[3], at + 4});
      at += 4 + at[2];
    }
  }
};

template <class S> struct Job {
  const KernelPlan* plan;
  const S* const* maps;    // L originals, (B, C, N) each
  const int64_t* labels;   // (B, N); with a sigmoid (B, C, N)
  const S* params;         // all parameters of the operators
  const S* weights;        // of the classes' cross-entropy (C), with a sigmoid of what is true; null where all are 1
  int64_t B, N, ignore, num_params, chunks;
  // Pass 1: sums of a chunk, and in it of each image: cross-entropy (m), overlap (m, C), Σ p² or Σ p (m, C), label
  // counts (C), pixels that count.
  double* sums = nullptr;
  // Pass 2: factors a (m, C), b (m, C), of each image, and g (m) of the gradient p·(a·p − b·y), or p·(a − b·y), through
  // softmax, plus g·(p − y).
  const S *a = nullptr, *b = nullptr, *g = nullptr;
  S* const* grads = nullptr;
  double* grad_params = nullptr;  // (chunks, num_params)
  int64_t sums_size() const { return plan->m * (2 * plan->C + 1) + plan->C + 1; }
  int64_t rows() const { return plan->per_image ? B : 1; }
};

template <class S, int VECS> struct Worker {
  using V = typename Real<S>::V;
  static_assert(VECS % 8 == 0, "loops go by 4 and 8 vectors");
  static constexpr int LANES = Real<S>::lanes, TILE = VECS * LANES;
  const Job<S>& job;
  const KernelPlan& plan;
  const int64_t L, C, CV;
  std::vector<V> memory;
  // Originals, their gradients, one-hot labels, exponentials, maps on the way down a trie, their adjoints, space to work
  // in; then for each scale one row of VECS vectors: attention's gates, and their slopes; what shapes a cross-entropy.
  V *P, *G, *Y, *E, *Z, *D, *X, *gates, *slopes, *shapes;
  std::vector<const V*> on_way;  // maps, by depth in a trie
  V valid[VECS], inv[VECS];
  V weight[VECS];                    // of the cross-entropy of each pixel
  const S *a = nullptr, *b = nullptr;  // factors of the image
  double *sums = nullptr, *grad_params = nullptr;

  explicit Worker(const Job<S>& j) : job(j), plan(*j.plan), L(plan.L), C(plan.C), CV(C * VECS), on_way(L + 1) {
    const std::pair<V**, int64_t> parts[] = {{&P, L * CV},       {&G, L * CV},       {&Y, CV},
                                             {&E, CV},           {&Z, (L + 1) * CV}, {&D, (L + 1) * CV},
                                             {&X, L * CV},       {&gates, L * VECS}, {&slopes, L * VECS},
                                             {&shapes, plan.smoothing > 0 || plan.gamma > 0 ? CV : 0}};
    int64_t size = 0;
    for (auto [part, count] : parts) size += count;
    memory.resize(size);
    V* at = memory.data();
    for (auto [part, count] : parts) *part = at, at += count;
  }

  // -- tiles ----------------------------------------------------------------------------------------------------------

  // Read a tile. Pixels that do not count, and those past the end, hold 0 and no class.
  void load(int64_t image, int64_t start, int count) {
    for (int64_t l = 0; l < L; ++l)
      for (int64_t c = 0; c < C; ++c) {
        V* row = P + l * CV + c * VECS;
        if (count < TILE) std::memset(row, 0, sizeof(V) * VECS);
        std::memcpy(row, job.maps[l] + (image * C + c) * job.N + start, sizeof(S) * count);
      }
    std::memset(Y, 0, sizeof(V) * CV);
    std::memset(valid, 0, sizeof valid);
    for (int v = 0; v < VECS; ++v) weight[v] = V{} + 1;
    S* y = (S*)Y;
    const int64_t rows = plan.sigmoid ? C : 1, top = plan.sigmoid ? 2 : C;
    const int64_t* labels = job.labels + image * rows * job.N + start;
    for (int t = 0; t < count; ++t) {
      bool counts = true;  // a pixel that is ignored in one channel is in all
      for (int64_t c = 0; c < rows; ++c) {
        const int64_t label = labels[c * job.N + t];
        counts = counts && label != job.ignore && label >= 0 && label < top;
      }
      if (!counts) {
        for (int64_t row = 0; row < L * C; ++row) ((S*)P)[row * TILE + t] = 0;
        continue;
      }
      ((S*)valid)[t] = 1;
      if (job.weights && !plan.sigmoid) ((S*)weight)[t] = job.weights[labels[t]];
      if (plan.sigmoid) for (int64_t c = 0; c < C; ++c) y[c * TILE + t] = (S)labels[c * job.N + t];
      else y[labels[t] * TILE + t] = 1;
    }
  }

  // Write the gradients: 0 where a pixel does not count, even where others made the loss NaN.
  void store(int64_t image, int64_t start, int count) {
    for (int64_t l = 0; l < L; ++l)
      for (int64_t c = 0; c < C; ++c) {
        V* row = G + l * CV + c * VECS;
        for (int v = 0; v < VECS; ++v) row[v] = valid[v] > 0 ? row[v] : V{};
        std::memcpy(job.grads[l] + (image * C + c) * job.N + start, row, sizeof(S) * count);
      }
  }

  template <class Visit> void tiles(int64_t chunk, Visit visit) {
    const int64_t per_image = (job.N + TILE - 1) / TILE, all = per_image * job.B;
    for (int64_t i = all * chunk / job.chunks, end = all * (chunk + 1) / job.chunks; i < end; ++i) {
      const int64_t start = i % per_image * TILE;
      visit(i / per_image, start, (int)std::min<int64_t>(TILE, job.N - start));
    }
  }

  void forward(int64_t chunk) {
    tiles(chunk, [&](int64_t image, int64_t start, int count) {
      sums = job.sums + (chunk * job.rows() + (plan.per_image ? image : 0)) * job.sums_size();
      double* counts = sums + plan.m * (2 * C + 1);
      load(image, start, count);
      for (int v = 0; v < VECS; ++v) counts[C] += lane_sum<S>(valid[v]);
      for (int64_t i = 0; i < CV; ++i) counts[i / VECS] += lane_sum<S>(Y[i]);
      for (const TrieNode& node : plan.nodes) add_node(node);
      for (const Fusion& fusion : plan.fusions) {
        build(fusion, Z);
        add_losses(fusion.map, Z);
      }
    });
  }

  void backward(int64_t chunk) {
    grad_params = job.grad_params + chunk * job.num_params;
    tiles(chunk, [&](int64_t image, int64_t start, int count) {
      const int64_t row = plan.per_image ? image * plan.m * C : 0;
      a = job.a + row, b = job.b + row;
      load(image, start, count);
      std::memset(G, 0, sizeof(V) * CV * L);
      for (size_t i = 0; i < plan.nodes.size();) i = back_node(i);
      for (const Fusion& fusion : plan.fusions) {
        build(fusion, Z);
        adjoint(fusion.map, Z, D);
        spread(fusion, D);
      }
      store(image, start, count);
    });
  }

  // -- losses of one map ----------------------------------------------------------------------------------------------

  // E = e^(z − max), inv = 1 / Σ E, or 0 where the pixel does not count. If LOSS, returns the cross-entropy of the tile,
  // Σ log Σ E − (z_label − max).
  template <bool LOSS> double softmax(const V* z) {
    const bool weighted = job.weights;  // read once: the compiler cannot know that what is stored below is elsewhere
    V product = V{} + 1, chosen = V{};
    double logs = 0;
    for (int v = 0; v < VECS; ++v) {
      V top = z[v];
      for (int64_t c = 1; c < C; ++c) top = larger(top, z[c * VECS + v]);
      V sum = V{}, picked = V{};
      for (int64_t c = 0; c < C; ++c) {
        const V d = z[c * VECS + v] - top;
        if (LOSS) picked += Y[c * VECS + v] > 0 ? d : V{};  // no product: of 0 and −inf that is NaN
        const V e = exp_down<S>(d);
        E[c * VECS + v] = e;
        sum += e;
      }
      inv[v] = valid[v] / sum;
      if (LOSS && weighted) {
        chosen -= valid[v] > 0 ? weight[v] * (log_up<S>(sum) - picked) : V{};
      } else if (LOSS) {
        product *= valid[v] > 0 ? sum : V{} + 1;
        chosen += picked;
        if (v % 8 == 7) logs += take_logs(product);
      }
    }
    return logs - lane_sum<S>(chosen);
  }

  // The same for channels by themselves: E = σ(z) where the pixel counts. With the terms of torch's cross-entropy with
  // logits, so that what is infinite there is infinite here.
  template <bool LOSS> double sigmoid(const V* z) {
    double ce = 0;
    for (int64_t c = 0; c < C; ++c)
      ce += sigmoid<LOSS>(z + c * VECS, Y + c * VECS, E + c * VECS, job.weights ? job.weights[c] : 1);
    return ce;
  }

  template <bool LOSS> double sigmoid(const V* z, const V* y, V* p, S weight) {
    const bool weighted = job.weights;
    V product = V{} + 1, rest = V{};
    double logs = 0;
    for (int v = 0; v < VECS; ++v) {
      const V negative = z[v] > 0 ? -z[v] : z[v];
      const V e = exp_down<S>(negative), sum = 1 + e;
      p[v] = valid[v] * (z[v] > 0 ? V{} + 1 : e) / sum;
      if (LOSS && weighted) {
        const V lost = log_up<S>(sum) + (z[v] > 0 ? V{} : -z[v]);  // of what is true; of what is not it is z more
        rest += valid[v] > 0 ? (y[v] > 0 ? weight * lost : lost + z[v]) : V{};
      } else if (LOSS) {
        product *= valid[v] > 0 ? sum : V{} + 1;
        rest += (valid[v] - y[v]) * z[v] - valid[v] * (z[v] > 0 ? V{} : z[v]);
        if (v % 8 == 7) logs += take_logs(product);
      }
    }
    return logs + lane_sum<S>(rest);
  }

  // One logarithm for 8 factors, each at most C: their product is finite while C < 2^16, which dispatch.py sees to.
  static double take_logs(V& product) {
    double logs = 0;
    for (int i = 0; i < LANES; ++i) logs += std::log((double)product[i]);
    product = V{} + 1;
    return logs;
  }

  // -- cross-entropies with a focal factor, or of smoothed labels -------------------------------------------------------
  //
  // With t what a pixel is to be, weights included, the loss is −Σ t·log p, and its slope (Σ t)·p − t. A focal loss has
  // the factor u^γ, its slope u^γ·(1 − γ·p·(log p) / u), with u = 1 − p and p that of what is true. `shapes` holds the
  // factors of the slopes, 0 where a pixel does not count: a row for each pixel, with a sigmoid one for each channel.

  bool shaped() const { return plan.smoothing > 0 || plan.gamma > 0; }

  // Factors of a focal loss and of its slope, from what is true: p, u = 1 − p, and −log p.
  std::pair<V, V> focal(V p, V u, V lost) const {
    const S gamma = (S)plan.gamma;
    const V power = exp_down<S>(-gamma * log_up<S>(1 / larger(V{} + Real<S>::tiny, u)));
    const V pull = u > 0 ? (p > 0 ? p * lost / u : V{}) : V{} + 1;
    return {power, power * (1 + gamma * pull)};
  }

  S class_weight(int64_t c) const { return job.weights ? job.weights[c] : 1; }

  // Σ w over the classes, times what smoothing gives to each of them.
  S spread_weight() const {
    S all = 0;
    for (int64_t c = 0; c < C; ++c) all += class_weight(c);
    return all * (S)plan.smoothing / C;
  }

  // As softmax. What is true of a pixel keeps weight·(1 − ε), and every class gets w·ε/C.
  template <bool LOSS> double shaped_softmax(const V* z) {
    const S kept = 1 - (S)plan.smoothing, part = (S)plan.smoothing / C, spread = spread_weight();
    V total = V{};
    for (int v = 0; v < VECS; ++v) {
      V top = z[v];
      for (int64_t c = 1; c < C; ++c) top = larger(top, z[c * VECS + v]);
      V sum = V{}, picked = V{}, mine = V{}, others = V{}, away = V{};
      for (int64_t c = 0; c < C; ++c) {
        const V d = z[c * VECS + v] - top, e = exp_down<S>(d);
        const auto own = Y[c * VECS + v] > 0;
        E[c * VECS + v] = e;
        sum += e;
        picked += own ? d : V{};
        mine += own ? e : V{};
        others += own ? V{} : e;
        if (part > 0 && class_weight(c) > 0) away += part * class_weight(c) * d;
      }
      inv[v] = valid[v] / sum;
      const V log_sum = log_up<S>(sum), lost = log_sum - picked, aim = kept * weight[v];
      V each = aim > 0 ? aim * lost : V{}, factor = V{} + 1;
      if (part > 0) each += spread * log_sum - away;
      if (plan.gamma > 0) {
        const auto [power, slope] = focal(mine / sum, others / sum, lost);
        each *= power, factor = slope;
      }
      shapes[v] = valid[v] > 0 ? factor : V{};
      if (LOSS) total += valid[v] > 0 ? each : V{};
    }
    return lane_sum<S>(total);
  }

  // As sigmoid: of what is true w·y', of what is not 1 − y', with y' = (1 − ε)·y + ε/2.
  template <bool LOSS> double shaped_sigmoid(const V* z) {
    V total = V{};
    for (int64_t c = 0; c < C; ++c)
      for (int64_t i = c * VECS; i < (c + 1) * VECS; ++i) {
        const auto above = z[i] > 0;
        const V e = exp_down<S>(above ? -z[i] : z[i]), sum = 1 + e, log_sum = log_up<S>(sum);
        const V p = (above ? V{} + 1 : e) / sum, u = (above ? e : V{} + 1) / sum;
        const V lost = log_sum + (above ? V{} : -z[i]), lost_other = log_sum + (above ? z[i] : V{});
        const V aim = channel_aim(c, Y[i]), other = 1 - smoothed(Y[i]);
        V each = (aim > 0 ? aim * lost : V{}) + (other > 0 ? other * lost_other : V{}), factor = V{} + 1;
        if (plan.gamma > 0) {
          const auto own = Y[i] > 0;
          const auto [power, slope] = focal(own ? p : u, own ? u : p, own ? lost : lost_other);
          each *= power, factor = slope;
        }
        const auto counts = valid[i % VECS] > 0;
        E[i] = counts ? p : V{};
        shapes[i] = counts ? factor : V{};
        if (LOSS) total += counts ? each : V{};
      }
    return lane_sum<S>(total);
  }

  V smoothed(V y) const { return (1 - (S)plan.smoothing) * y + (S)plan.smoothing / 2; }
  V channel_aim(int64_t c, V y) const { return class_weight(c) * smoothed(y); }

  double shaped_loss(const V* z) { return plan.sigmoid ? shaped_sigmoid<true>(z) : shaped_softmax<true>(z); }

  template <bool SQUARES> void shaped_adjoint(int64_t map, const V* z, V* d) {
    const S *a = this->a + map * C, *b = this->b + map * C, g = job.g[map];
    const auto pull = [&](int64_t c, V p, V y) { return (SQUARES ? a[c] * p : V{} + a[c]) - b[c] * y; };
    if (plan.sigmoid) {
      shaped_sigmoid<false>(z);
      for (int64_t c = 0; c < C; ++c)
        for (int64_t i = c * VECS; i < (c + 1) * VECS; ++i) {
          const V p = E[i], y = Y[i], aim = channel_aim(c, y), whole = aim + 1 - smoothed(y);
          d[i] = p * (1 - p) * pull(c, p, y) + g * shapes[i] * (whole * p - aim);
        }
      return;
    }
    shaped_softmax<false>(z);
    const S kept = 1 - (S)plan.smoothing, part = (S)plan.smoothing / C, spread = spread_weight();
    V mean[VECS] = {};
    for (int64_t c = 0; c < C; ++c)
      for (int v = 0; v < VECS; ++v) {
        const V p = E[c * VECS + v] * inv[v];
        E[c * VECS + v] = p;
        mean[v] += p * pull(c, p, Y[c * VECS + v]);
      }
    for (int64_t c = 0; c < C; ++c)
      for (int v = 0; v < VECS; ++v) {
        const V p = E[c * VECS + v], y = Y[c * VECS + v], own = kept * weight[v];
        const V aim = own * y + part * class_weight(c), whole = own + spread;
        d[c * VECS + v] = p * (pull(c, p, y) - mean[v]) + g * shapes[v] * (whole * p - aim);
      }
  }

  // -- what both passes do with a map ---------------------------------------------------------------------------------

  void add_losses(int64_t map, const V* z) {
    sums[map] += shaped() ? shaped_loss(z) : plan.sigmoid ? sigmoid<true>(z) : softmax<true>(z);
    double *overlap = sums + plan.m + map * C, *spread = overlap + plan.m * C;
    const bool given = plan.sigmoid, squares = plan.squares;
    for (int64_t c = 0; c < C; ++c) {
      V sum = V{}, shared = V{};
      for (int v = 0; v < VECS; ++v) {
        const V p = given ? E[c * VECS + v] : E[c * VECS + v] * inv[v];
        sum += squares ? p * p : p;
        shared += p * Y[c * VECS + v];
      }
      overlap[c] += lane_sum<S>(shared);
      spread[c] += lane_sum<S>(sum);
    }
  }

  // d = gradient of the total with respect to the logits z of a map.
  void adjoint(int64_t map, const V* z, V* d) {
    if (shaped()) return plan.squares ? shaped_adjoint<true>(map, z, d) : shaped_adjoint<false>(map, z, d);
    if (plan.squares) adjoint<true>(map, z, d);
    else adjoint<false>(map, z, d);
  }

  template <bool SQUARES> void adjoint(int64_t map, const V* z, V* d) {
    const S *a = this->a + map * C, *b = this->b + map * C, g = job.g[map];
    const auto pull = [&](int64_t c, V p, V y) { return (SQUARES ? a[c] * p : V{} + a[c]) - b[c] * y; };
    if (plan.sigmoid) {
      const S* weights = job.weights;
      sigmoid<false>(z);
      for (int64_t c = 0; c < C; ++c)
        for (int64_t i = c * VECS; i < (c + 1) * VECS; ++i) {
          const V p = E[i], y = Y[i], slope = p * (1 - p);
          const V gain = weights ? g * (y > 0 ? V{} + weights[c] : V{} + 1) : V{} + g;
          d[i] = slope * pull(c, p, y) + gain * (p - y);
        }
      return;
    }
    softmax<false>(z);
    V mean[VECS] = {};
    for (int64_t c = 0; c < C; ++c)
      for (int v = 0; v < VECS; ++v) {
        const V p = E[c * VECS + v] * inv[v];
        E[c * VECS + v] = p;
        mean[v] += p * pull(c, p, Y[c * VECS + v]);
      }
    for (int64_t c = 0; c < C; ++c)
      for (int v = 0; v < VECS; ++v) {
        const V p = E[c * VECS + v], y = Y[c * VECS + v];
        d[c * VECS + v] = p * (pull(c, p, y) - mean[v]) + g * weight[v] * (p - y);  // 0 to the last bit where p is y
      }
  }

  // -- sums and products ----------------------------------------------------------------------------------------------

  // The map at a node: the original itself at depth 1, else its parent extended by one scale.
  const V* node_map(const TrieNode& node) {
    const V* last = P + node.scale * CV;
    if (node.depth == 1) return last;
    const V* parent = on_way[node.depth - 1];
    V* z = Z + node.depth * CV;
    if (node.kind == ADD) for (int64_t i = 0; i < CV; ++i) z[i] = parent[i] + last[i];
    else for (int64_t i = 0; i < CV; ++i) z[i] = parent[i] * last[i];
    return z;
  }

  void add_node(const TrieNode& node) {
    on_way[node.depth] = node_map(node);
    if (node.map >= 0) add_losses(node.map, on_way[node.depth]);
  }

  // Visit a node and all below it; leaves in D[depth] the adjoint of its map and hands it on to the node's own scale.
  size_t back_node(size_t i) {
    const TrieNode& node = plan.nodes[i];
    const V* z = on_way[node.depth] = node_map(node);
    V* d = D + node.depth * CV;
    if (node.map < 0) std::memset(d, 0, sizeof(V) * CV);
    else adjoint(node.map, z, d);
    size_t next = i + 1;
    while (next < plan.nodes.size() && plan.nodes[next].depth > node.depth) {
      const TrieNode& child = plan.nodes[next];
      next = back_node(next);
      const V *below = d + CV, *last = P + child.scale * CV;
      V* grad = G + child.scale * CV;
      if (child.kind == ADD)
        for (int64_t j = 0; j < CV; ++j) {
          grad[j] += below[j];
          d[j] += below[j];
        }
      else
        for (int64_t j = 0; j < CV; ++j) {
          grad[j] += below[j] * z[j];
          d[j] += below[j] * last[j];
        }
    }
    if (node.depth == 1)
      for (int64_t j = 0; j < CV; ++j) G[node.scale * CV + j] += d[j];
    return next;
  }

  // -- the other operators --------------------------------------------------------------------------------------------

  void build(const Fusion& fusion, V* z) {
    switch (fusion.kind) {
      case CONCAT: return build_concat(fusion, z);
      case ATTENTION: return build_attention(fusion, z);
      case MAX:
        std::memcpy(z, P + fusion.scales[0] * CV, sizeof(V) * CV);
        for (int64_t j = 1; j < fusion.arity; ++j) take_larger(z, P + fusion.scales[j] * CV, z);
        return;
      default: return build_linear(fusion, z);
    }
  }

  void build_linear(const Fusion& fusion, V* z) const {
    const S others = fusion.kind == SUB ? -1 : 1, factor = fusion.kind == AVG ? S(1) / fusion.arity : S(1);
    for (int64_t i = 0; i < CV; ++i) {
      V rest = V{};
      for (int64_t j = 1; j < fusion.arity; ++j) rest += P[fusion.scales[j] * CV + i];
      z[i] = (P[fusion.scales[0] * CV + i] + others * rest) * factor;
    }
  }

  void spread(const Fusion& fusion, V* d) {
    switch (fusion.kind) {
      case CONCAT: return spread_concat(fusion, d);
      case ATTENTION: return spread_attention(fusion, d);
      case MAX: return spread_max(fusion, d);
      default:
        for (int64_t j = 0; j < fusion.arity; ++j) {
          const S factor = fusion.kind == AVG ? S(1) / fusion.arity : S(j ? -1 : 1);
          V* grad = G + fusion.scales[j] * CV;
          for (int64_t i = 0; i < CV; ++i) grad[i] += factor * d[i];
        }
    }
  }

  // NaN in either goes on, as in torch.maximum.
  void take_larger(const V* a, const V* b, V* out) const {
    for (int64_t i = 0; i < CV; ++i) out[i] = a[i] != a[i] ? a[i] : larger(a[i], b[i]);
  }

  // Ties share the gradient in halves, one comparison after the other, as torch.maximum does; of NaN both get it all.
  void spread_max(const Fusion& fusion, V* d) {
    std::memcpy(X, P + fusion.scales[0] * CV, sizeof(V) * CV);
    for (int64_t j = 1; j + 1 < fusion.arity; ++j) take_larger(X + (j - 1) * CV, P + fusion.scales[j] * CV, X + j * CV);
    for (int64_t j = fusion.arity - 1; j > 0; --j) {
      const V *before = X + (j - 1) * CV, *last = P + fusion.scales[j] * CV;
      V* grad = G + fusion.scales[j] * CV;
      for (int64_t i = 0; i < CV; ++i) {
        const V shared = last[i] == before[i] ? d[i] * S(0.5) : d[i];
        grad[i] += before[i] > last[i] ? V{} : shared;
        d[i] = before[i] < last[i] ? V{} : shared;
      }
    }
    for (int64_t i = 0; i < CV; ++i) G[fusion.scales[0] * CV + i] += d[i];
  }

  // concat: z = W·P + b, W (C, arity·C) by rows. Blocks of 3 outputs by 4 vectors fill the registers.

  void build_concat(const Fusion& fusion, V* z) const {
    const S *w = job.params + fusion.params, *bias = w + C * C * fusion.arity;
    for (int64_t o = 0; o < C;) {
      if (C - o >= 3) concat_rows<3>(fusion, w, bias, o, z), o += 3;
      else concat_rows<1>(fusion, w, bias, o, z), o += 1;
    }
  }

  template <int ROWS>
  void concat_rows(const Fusion& fusion, const S* w, const S* bias, int64_t o, V* z) const {
    const int64_t width = fusion.arity * C;
    for (int v = 0; v < VECS; v += 4) {
      V acc[ROWS][4];
      for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < 4; ++k) acc[r][k] = V{} + bias[o + r];
      for (int64_t j = 0; j < fusion.arity; ++j) {
        const V* in = P + fusion.scales[j] * CV + v;
        const S* row = w + o * width + j * C;
        for (int64_t c = 0; c < C; ++c)
          for (int r = 0; r < ROWS; ++r)
            for (int k = 0; k < 4; ++k) acc[r][k] += row[r * width + c] * in[c * VECS + k];
      }
      for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < 4; ++k) z[(o + r) * VECS + v + k] = acc[r][k];
    }
  }

  void spread_concat(const Fusion& fusion, const V* d) {
    const int64_t width = fusion.arity * C;
    const S* w = job.params + fusion.params;
    double *grad_w = grad_params + fusion.params, *grad_bias = grad_w + C * width;
    for (int64_t o = 0; o < C; ++o) {
      V sum = V{};
      for (int v = 0; v < VECS; ++v) sum += d[o * VECS + v];
      grad_bias[o] += lane_sum<S>(sum);
    }
    for (int64_t j = 0; j < fusion.arity; ++j) {
      const V* in = P + fusion.scales[j] * CV;
      V* grad = G + fusion.scales[j] * CV;
      for (int64_t c = 0; c < C;) {
        if (C - c >= 3) concat_grad<3>(w + j * C + c, width, d, grad + c * VECS), c += 3;
        else concat_grad<1>(w + j * C + c, width, d, grad + c * VECS), c += 1;
      }
      for (int64_t o = 0; o < C;) {
        const int rows = C - o >= 3 ? 3 : 1;
        for (int64_t c = 0; c < C;) {
          double* to = grad_w + o * width + j * C + c;
          const V *dz = d + o * VECS, *p = in + c * VECS;
          const int columns = C - c >= 3 ? 3 : 1;
          if (rows == 3 && columns == 3) concat_outer<3, 3>(dz, p, to, width);
          else if (rows == 3) concat_outer<3, 1>(dz, p, to, width);
          else if (columns == 3) concat_outer<1, 3>(dz, p, to, width);
          else concat_outer<1, 1>(dz, p, to, width);
          c += columns;
        }
        o += rows;
      }
    }
  }

  // grad[r] += Σ_o W[o][r]·d[o]
  template <int ROWS> void concat_grad(const S* w, int64_t width, const V* d, V* grad) const {
    for (int v = 0; v < VECS; v += 4) {
      V acc[ROWS][4];
      for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < 4; ++k) acc[r][k] = grad[r * VECS + v + k];
      for (int64_t o = 0; o < C; ++o)
        for (int r = 0; r < ROWS; ++r)
          for (int k = 0; k < 4; ++k) acc[r][k] += w[o * width + r] * d[o * VECS + v + k];
      for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < 4; ++k) grad[r * VECS + v + k] = acc[r][k];
    }
  }

  // to[r][s] += Σ over pixels of d[r]·p[s]
  template <int ROWS, int COLUMNS> void concat_outer(const V* d, const V* p, double* to, int64_t width) const {
    V acc[ROWS][COLUMNS] = {};
    for (int v = 0; v < VECS; ++v)
      for (int r = 0; r < ROWS; ++r)
        for (int s = 0; s < COLUMNS; ++s) acc[r][s] += d[r * VECS + v] * p[s * VECS + v];
    for (int r = 0; r < ROWS; ++r)
      for (int s = 0; s < COLUMNS; ++s) to[r * width + s] += lane_sum<S>(acc[r][s]);
  }

  // attention: gates = softmax over j of (w_j·P_j + b_j), w (arity, C); z = Σ gate_j·P_j

  void build_attention(const Fusion& fusion, V* z) {
    const S *w = job.params + fusion.params, *bias = w + fusion.arity * C;
    V top[VECS] = {}, sum[VECS] = {};
    for (int64_t j = 0; j < fusion.arity; ++j) {
      const V* p = P + fusion.scales[j] * CV;
      for (int v = 0; v < VECS; ++v) gates[j * VECS + v] = V{} + bias[j];
      for (int64_t c = 0; c < C; ++c)
        for (int v = 0; v < VECS; ++v) gates[j * VECS + v] += w[j * C + c] * p[c * VECS + v];
      for (int v = 0; v < VECS; ++v) top[v] = j ? larger(top[v], gates[j * VECS + v]) : gates[j * VECS + v];
    }
    for (int64_t j = 0; j < fusion.arity; ++j)
      for (int v = 0; v < VECS; ++v) sum[v] += gates[j * VECS + v] = exp_down<S>(gates[j * VECS + v] - top[v]);
    for (int64_t j = 0; j < fusion.arity; ++j)
      for (int v = 0; v < VECS; ++v) gates[j * VECS + v] /= sum[v];
    for (int64_t j = 0; j < fusion.arity; ++j) {
      const V* p = P + fusion.scales[j] * CV;
      for (int64_t c = 0; c < C; ++c)
        for (int v = 0; v < VECS; ++v) {
          const V part = gates[j * VECS + v] * p[c * VECS + v];
          z[c * VECS + v] = j ? z[c * VECS + v] + part : part;
        }
    }
  }

  void spread_attention(const Fusion& fusion, const V* d) {
    const S* w = job.params + fusion.params;
    double *grad_w = grad_params + fusion.params, *grad_bias = grad_w + fusion.arity * C;
    V *slope = slopes, mean[VECS] = {};
    for (int64_t j = 0; j < fusion.arity; ++j) {
      const V* p = P + fusion.scales[j] * CV;
      for (int v = 0; v < VECS; ++v) slope[j * VECS + v] = V{};
      for (int64_t c = 0; c < C; ++c)
        for (int v = 0; v < VECS; ++v) slope[j * VECS + v] += d[c * VECS + v] * p[c * VECS + v];
      for (int v = 0; v < VECS; ++v) mean[v] += gates[j * VECS + v] * slope[j * VECS + v];
    }
    for (int64_t j = 0; j < fusion.arity; ++j) {
      const V* p = P + fusion.scales[j] * CV;
      V *grad = G + fusion.scales[j] * CV, total = V{};
      for (int v = 0; v < VECS; ++v) {
        slope[j * VECS + v] = gates[j * VECS + v] * (slope[j * VECS + v] - mean[v]);
        total += slope[j * VECS + v];
      }
      grad_bias[j] += lane_sum<S>(total);
      for (int64_t c = 0; c < C; ++c) {
        V sum = V{};
        for (int v = 0; v < VECS; ++v) {
          grad[c * VECS + v] += gates[j * VECS + v] * d[c * VECS + v] + slope[j * VECS + v] * w[j * C + c];
          sum += slope[j * VECS + v] * p[c * VECS + v];
        }
        grad_w[j * C + c] += lane_sum<S>(sum);
      }
    }
  }
};

// Python fixes the chunks, and each has sums of its own. So the result does not depend on the number of threads, nor on
// which thread is faster. Returns false if there was no memory for even one worker.
template <class S, bool BACK> bool run(const Job<S>& job, int threads) {
  std::atomic<int64_t> next{0};
  auto work = [&] {
    try {
      Worker<S, TILE_BYTES / BYTES> worker(job);
      for (int64_t chunk; (chunk = next++) < job.chunks;) {
        if (BACK) worker.backward(chunk);
        else worker.forward(chunk);
      }
    } catch (const std::exception&) {  // no memory: nothing was begun, so the other workers do it all
    }
  };
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < threads && i < job.chunks; ++i) others.emplace_back(work);
  } catch (const std::exception&) {  // the system gives no more threads: those that run do it all
  }
  work();
  for (auto& thread : others) thread.join();
  return next >= job.chunks;
}

template <class S>
bool forward(const int64_t* code, const S* const* maps, const int64_t* labels, const S* params, const S* weights,
             int64_t B, int64_t N, int64_t ignore, int64_t chunks, double* sums, int threads) {
  const KernelPlan plan(code);
  Job<S> job{&plan, maps, labels, params, weights, B, N, ignore, 0, chunks, sums};
  return run<S, false>(job, threads);
}

template <class S>
bool backward(const int64_t* code, const S* const* maps, const int64_t* labels, const S* params, const S* weights,
              int64_t B, int64_t N, int64_t ignore, int64_t chunks, int64_t num_params, const S* a, const S* b,
              const S* g, S* const* grads, double* grad_params, int threads) {
  const KernelPlan plan(code);
  Job<S> job{&plan, maps, labels, params, weights, B, N, ignore, num_params, chunks};
  job.a = a, job.b = b, job.g = g, job.grads = grads, job.grad_params = grad_params;
  return run<S, true>(job, threads);
}

// No exception may leave the library: what is left to fail is memory.
template <class Call> int guarded(Call call) {
  try {
    return call() ? 0 : 1;
  } catch (const std::exception&) {
    return 1;
  }
}

}  // namespace

// Both return 0, or 1 if there was no memory.
#define LOMIX_EXPORT(S, NAME)                                                                                          \
  extern "C" int lomix_forward_##NAME(const int64_t* code, const S* const* maps, const int64_t* labels,                \
                                      const S* params, const S* weights, int64_t B, int64_t N, int64_t ignore,         \
                                      int64_t chunks, double* sums, int threads) {                                     \
    return guarded([&] {                                                                                               \
      return forward<S>(code, maps, labels, params, weights, B, N, ignore, chunks, sums, threads);                     \
    });                                                                                                                \
  }                                                                                                                    \
  extern "C" int lomix_backward_##NAME(const int64_t* code, const S* const* maps, const int64_t* labels,               \
                                       const S* params, const S* weights, int64_t B, int64_t N, int64_t ignore,        \
                                       int64_t chunks, int64_t num_params, const S* a, const S* b, const S* g,         \
                                       S* const* grads, double* grad_params, int threads) {                            \
    return guarded([&] {                                                                                               \
      return backward<S>(code, maps, labels, params, weights, B, N, ignore, chunks, num_params, a, b, g, grads,        \
                         grad_params, threads);                                                                        \
    });                                                                                                                \
  }

LOMIX_EXPORT(float, f32)
LOMIX_EXPORT(double, f64)
