// The mixture's losses on the CPU, in two passes over tiles of pixels. compiler.py compiles this, native.py calls it.
//
// A tile is TILE consecutive pixels of one image. All maps of a tile are built, used and forgotten while they are in
// the cache, so memory does not grow with the number of maps. Pass 1 adds up what cross-entropy and Dice need; pass 2
// builds every map again and walks back from its loss to the originals and the parameters. Pixels stand in vector
// lanes, so no sum runs across lanes inside the loops, and no flag that changes the meaning of NaN is needed.
//
// Coarse originals are interpolated as a tile is read, and their gradients are added up at their own size.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE inline __attribute__((always_inline))

namespace {

// Bytes of one vector: what the machine has. Compilers can split longer ones, but compare and choose lane by lane then,
// which makes all of this four times slower.
#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;  // SSE2, NEON
#endif
constexpr int TILE_BYTES = BYTES == 64 ? 512 : 256;  // of one row of a tile: 128 or 64 pixels in float
constexpr bool MANY = BYTES == 64;  // registers: 32 of them, not 16
constexpr int FLUSH = 16;        // tiles whose sums are held in the vectors' own type before they go into double

typedef float f32v __attribute__((vector_size(BYTES)));
typedef double f64v __attribute__((vector_size(BYTES)));
typedef int32_t i32v __attribute__((vector_size(BYTES)));
typedef int64_t i64v __attribute__((vector_size(BYTES)));

template <class S> struct Real;

// c: 2^f for |f| ≤ 1/2 to 1.5e-7 and 3e-16, the best polynomial of its degree.
template <> struct Real<float> {
  using V = f32v;
  using I = i32v;
  static constexpr int lanes = BYTES / 4, mantissa = 23, degree = 5;
  static constexpr float log2e = 1.44269504f, ln2 = 0.69314718f, low = -88.0296860f, tiny = 1.2e-38f, alike = 1e-6f;
  static constexpr float magic = 12582912.0f;  // 1.5·2²³ rounds to an integer, which is then in the lowest bits
  static constexpr float c[] = {1.0f,         0.6931469174f,  0.2402211800f,
                                0.05550712874f, 0.009675540650f, 0.001327647168f};
};

template <> struct Real<double> {
  using V = f64v;
  using I = i64v;
  static constexpr int lanes = BYTES / 8, mantissa = 52, degree = 10;
  static constexpr double log2e = 1.4426950408889634, ln2 = 0.69314718055994531, low = -709.0895657128, tiny = 2.3e-308;
  static constexpr double alike = 1e-12;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double c[] = {1.0,
                                 0.693147180559949729,
                                 0.240226506959087662,
                                 0.0555041086644588295,
                                 0.00961812910803458806,
                                 0.00133335582285614746,
                                 0.000154035299611359544,
                                 1.52526581165613833e-05,
                                 1.3215662831846102e-06,
                                 1.02085379045521632e-07,
                                 7.03727953058280305e-09};
};

// Returns NaN where b is NaN, or, as the instructions of ARM do, where either is.
INLINE f32v larger(f32v a, f32v b) {
#if defined(__AVX512F__)
  return (f32v)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
  return (f32v)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (f32v)_mm_max_ps((__m128)a, (__m128)b);
#elif defined(__aarch64__)
  return (f32v)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#else
  return a > b ? a : b;
#endif
}
INLINE f64v larger(f64v a, f64v b) {
#if defined(__AVX512F__)
  return (f64v)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX__)
  return (f64v)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
  return (f64v)_mm_max_pd((__m128d)a, (__m128d)b);
#elif defined(__aarch64__)
  return (f64v)vmaxq_f64((float64x2_t)a, (float64x2_t)b);
#else
  return a > b ? a : b;
#endif
}

// q·2^t for a whole t, which stands in the lowest bits of `held` = t + magic.
template <class S, class V = typename Real<S>::V> INLINE V scaled(V q, V held) {
  using R = Real<S>;
#if defined(__AVX512F__)
  const V t = held - R::magic;
  if constexpr (R::mantissa == 23) return (V)_mm512_scalef_ps((__m512)q, (__m512)t);
  else return (V)_mm512_scalef_pd((__m512d)q, (__m512d)t);
#else
  using I = typename R::I;
  return (V)((I)q + ((I)held << R::mantissa));
#endif
}

// e^d for d ≤ 0, of N vectors at once, so that none has to wait for its own last step; to 1e-7·(2 + |d|) in float and
// 1e-15 in double; NaN stays NaN. Below e^low it is nearly nothing, which NoDenormals makes 0: a class at −inf has no
// part in anything. It is 2^t·2^f with a whole t, which is added to the exponent of 2^f. `low` is a hair above
// −127·ln 2, or −1023·ln 2: f must not be negative there, or 2^f would borrow from an exponent of 0.
template <class S, int N, class V = typename Real<S>::V> INLINE void exp_down(const V* d, V* out) {
  using R = Real<S>;
  V u[N], t[N], q[N];
#pragma GCC unroll 4
  for (int k = 0; k < N; ++k) u[k] = larger(V{} + R::low, d[k]);
#pragma GCC unroll 4
  for (int k = 0; k < N; ++k) t[k] = u[k] * R::log2e + R::magic;
#pragma GCC unroll 4
  for (int k = 0; k < N; ++k) u[k] = u[k] * R::log2e - (t[k] - R::magic), q[k] = V{} + R::c[R::degree];
#pragma GCC unroll 16
  for (int i = R::degree - 1; i >= 0; --i)
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) q[k] = q[k] * u[k] + R::c[i];
#pragma GCC unroll 4
  for (int k = 0; k < N; ++k) out[k] = scaled<S>(q[k], t[k]);
}

template <class S, class V = typename Real<S>::V> INLINE V exp_down(V d) {
  V out;
  exp_down<S, 1>(&d, &out);
  return out;
}

// The logarithm of x > 0, to 1e-8 in float and 1e-16 in double; NaN stays NaN. With x = 2^e·m and m near 1 it is
// e·ln 2 + 2·artanh((m − 1) / (m + 1)).
template <class S, class V = typename Real<S>::V> INLINE V log_of(V x) {
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

template <class S> INLINE double lane_sum(typename Real<S>::V v) {
  constexpr int n = Real<S>::lanes;
  S x[n];
  std::memcpy(x, &v, sizeof x);
  for (int half = n / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

// Sums over the lanes of N vectors each.
template <int N> INLINE void lane_sums(const f32v* x, float* to) {
#if defined(__AVX512F__)
  // Halves of two become one vector, then quarters of four, then what is left is turned. Of 16 all is used.
  constexpr int pairs = N / 2, fours = N / 4;
  const auto add = [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); };
  __m512 half[pairs], part[fours];
#pragma GCC unroll 8
  for (int i = 0; i < pairs; ++i) {
    const __m512 a = (__m512)x[2 * i], b = (__m512)x[2 * i + 1];
    half[i] = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
#pragma GCC unroll 4
  for (int i = 0; i < fours; ++i) {  // four lanes for each of x[4·i …]
    const __m512 a = half[2 * i], b = half[2 * i + 1];
    part[i] = add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  }
  const auto twos = [&](__m512 a, __m512 b) { return add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); };
  const __m512 low = twos(part[0], part[1]), high = N == 16 ? twos(part[fours - 2], part[fours - 1]) : low;
  const __m512 all = add(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee));
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512 sums = _mm512_permutexvar_ps(order, all);
  std::memcpy(to, &sums, sizeof(float) * N);
#else
  constexpr int n = Real<float>::lanes;
  for (int i = 0; i < N; i += n) {
#if defined(__AVX__)
    const __m256* a = (const __m256*)(x + i);
    const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
    const f32v sums = (f32v)_mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
#elif defined(__SSE2__)
    __m128 a = (__m128)x[i], b = (__m128)x[i + 1], c = (__m128)x[i + 2], d = (__m128)x[i + 3];
    _MM_TRANSPOSE4_PS(a, b, c, d);
    const f32v sums = (f32v)_mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d));
#elif defined(__aarch64__)
    const float32x4_t* a = (const float32x4_t*)(x + i);
    const f32v sums = (f32v)vpaddq_f32(vpaddq_f32(a[0], a[1]), vpaddq_f32(a[2], a[3]));
#else
    f32v sums;
    for (int k = 0; k < n; ++k) sums[k] = (float)lane_sum<float>(x[i + k]);
#endif
    std::memcpy(to + i, &sums, sizeof sums);
  }
#endif
}
template <int N> INLINE void lane_sums(const f64v* x, double* to) {
  constexpr int n = Real<double>::lanes;
  for (int i = 0; i < N; i += n) {
#if defined(__AVX__) && !defined(__AVX512F__)
    const __m256d* a = (const __m256d*)(x + i);
    const __m256d low = _mm256_hadd_pd(a[0], a[1]), high = _mm256_hadd_pd(a[2], a[3]);
    const f64v sums = (f64v)_mm256_add_pd(_mm256_permute2f128_pd(low, high, 0x20), _mm256_permute2f128_pd(low, high, 0x31));
#elif defined(__SSE2__) && !defined(__AVX__)
    const __m128d a = (__m128d)x[i], b = (__m128d)x[i + 1];
    const f64v sums = (f64v)_mm_add_pd(_mm_unpacklo_pd(a, b), _mm_unpackhi_pd(a, b));
#elif defined(__aarch64__)
    const f64v sums = (f64v)vpaddq_f64((float64x2_t)x[i], (float64x2_t)x[i + 1]);
#else
    f64v sums;
    for (int k = 0; k < n; ++k) sums[k] = lane_sum<double>(x[i + k]);
#endif
    std::memcpy(to + i, &sums, sizeof sums);
  }
}

// While one of these lives, numbers that are nearly nothing become 0: some processors take a hundred cycles for each.
struct NoDenormals {
#if defined(__SSE2__)
  const unsigned before = _mm_getcsr();
  NoDenormals() { _mm_setcsr(before | 0x8040); }
  ~NoDenormals() { _mm_setcsr(before); }
#else
  NoDenormals() {}
  ~NoDenormals() {}
#endif
};

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

// How the pixels of one axis read a coarser one: pixel i the values at[i] and at[i] + 1, the second with share[i].
template <class S> struct Axis {
  int64_t own;
  std::vector<int32_t> at;
  std::vector<S> share;
  Axis(int64_t own, int64_t full) : own(own), at(full), share(full) {
    const S scale = (S)own / (S)full;
    for (int64_t i = 0; i < full; ++i) {
      const S x = std::max<S>(scale * (i + S(0.5)) - S(0.5), 0);
      at[i] = (int32_t)std::min<int64_t>((int64_t)x, own - 1), share[i] = x - at[i];
    }
  }
  int32_t next(int64_t i) const { return std::min<int32_t>(at[i] + 1, (int32_t)own - 1); }
};

// The axes of one original, always three; `full` where it has the labels' size.
template <class S> struct Grid {
  bool full;
  Axis<S> z, y, x;
  Grid(const int64_t* own, const int64_t* size)
      : full(std::equal(own, own + 3, size)), z(own[0], size[0]), y(own[1], size[1]), x(own[2], size[2]) {}
  int64_t lines() const { return z.own * y.own; }  // of an image
  int64_t pixels() const { return lines() * x.own; }
};

// Gradients of coarse originals, which neighbouring chunks share lines of. Each chunk adds up its own part, a band of
// lines (C, lines, x); bands are added to the whole in the order of the chunks, whichever is done first.
template <class S> struct Band {
  int64_t first = 0, lines = 0;
  std::vector<S> sums;
};

template <class S> struct Bands {
  std::mutex lock;
  int64_t next = 0;
  std::map<int64_t, std::vector<Band<S>>> waiting;
};

template <class S> struct Job {
  const KernelPlan* plan;
  const S* const* maps;    // L originals, (B, C, own pixels) each
  std::vector<Grid<S>> grids;
  int64_t sizes[3];        // of the labels
  const int64_t* labels;   // (B, N); with a sigmoid (B, C, N)
  const S* params;         // all parameters of the operators
  std::vector<S> concat;   // those of concatenations less those of the last class, with a softmax
  const S* weights;        // of the classes' cross-entropy (C), with a sigmoid of what is true; null where all are 1
  const S* boundary;       // what a pixel weighs in each channel (B, C, N), with a sigmoid; null where all weigh 1
  int64_t B, N, ignore, num_params, chunks;
  // Pass 1: sums of a chunk, and in it of each image: cross-entropy (m, K), overlap (m, C), Σ p² or Σ p (m, C), label
  // counts (C), pixels that count, or what they weigh (K). K is C with boundary weights, else 1.
  double* sums = nullptr;
  S* each = nullptr;  // where the largest are wanted: all cross-entropies (m, 1 or C, B, N), −1 where none is
  // Pass 2: factors a (m, C), b (m, C), of each image, and g (m, K) of the gradient p·(a·p − b·y), or p·(a − b·y),
  // through softmax, plus g·(p − y); with boundary weights g is of each image too.
  const S *a = nullptr, *b = nullptr, *g = nullptr;
  const S* cuts = nullptr;  // where the largest count: from which loss on (m), and with which share those as large (m)
  S* const* grads = nullptr;        // zeros for coarse originals
  double* grad_params = nullptr;  // (chunks, num_params)
  Bands<S>* bands = nullptr;
  Job(const KernelPlan* plan, const S* const* maps, const int64_t* shapes, const int64_t* labels, const S* params,
      const S* weights, const S* boundary, int64_t B, int64_t ignore, int64_t num_params, int64_t chunks)
      : plan(plan), maps(maps), sizes{shapes[0], shapes[1], shapes[2]}, labels(labels), params(params), weights(weights),
        boundary(boundary), B(B), N(shapes[0] * shapes[1] * shapes[2]), ignore(ignore), num_params(num_params), chunks(chunks) {
    for (int64_t l = 0; l < plan->L; ++l) grids.emplace_back(shapes + 3 * (l + 1), shapes);
    for (const Fusion& fusion : plan->fusions)
      if (fusion.kind == CONCAT) lower(fusion);
  }
  // A softmax stays the same when all of its classes are raised or lowered, and its adjoints add up to 0: a class less.
  void lower(const Fusion& fusion) {
    const int64_t C = plan->C, width = fusion.arity * C, end = fusion.params + C * (width + 1);
    if ((int64_t)concat.size() < end) concat.resize(end);
    const S* w = params + fusion.params;
    S* to = concat.data() + fusion.params;
    for (int64_t i = 0; i < C * width; ++i) to[i] = w[i] - (plan->sigmoid ? 0 : w[(C - 1) * width + i % width]);
    for (int64_t o = 0; o < C; ++o) to[C * width + o] = w[C * width + o] - (plan->sigmoid ? 0 : w[C * width + C - 1]);
  }
  int64_t columns() const { return boundary ? plan->C : 1; }  // K
  int64_t sums_size() const { return plan->m * (2 * plan->C + columns()) + plan->C + columns(); }
  int64_t rows() const { return plan->per_image ? B : 1; }
};

template <class S, int VECS> struct Worker {
  using V = typename Real<S>::V;
  using I = typename Real<S>::I;
  static_assert(VECS % 4 == 0, "loops go by 2 and 4 vectors");
  static constexpr int LANES = Real<S>::lanes, TILE = VECS * LANES;
  static constexpr int MOST = MANY ? 10 : 6, TALL = MANY ? 4 : 2;  // rows of a block: registers hold so many
  struct Gate { int64_t weight, bias, scale; };  // of attention, where its parameters begin; maps may share it
  const Job<S>& job;
  const KernelPlan& plan;
  const int64_t L, C, K, CV;
  const bool powers;  // e^(a + b) = e^a·e^b: the exponentials of sums are products of those of the originals
  std::vector<Gate> all_gates;
  std::vector<int64_t> gates_of;  // of each attention in turn, one for each of its scales
  std::vector<V> memory;
  // Originals, their exponentials, their gradients, one-hot labels, also as masks, exponentials, sums or products or
  // their powers on the way down a trie, their adjoints, space to work in; then one row of VECS vectors for each scale:
  // what is chosen of the originals and of sums, attention's gates; for each gate its score and slope; what shapes a
  // cross-entropy, what pixels weigh; then sums that wait for double.
  V *P, *Q, *G, *Y, *M, *E, *Z, *D, *X, *chosen, *chosen_sums, *gates, *scores, *slopes, *shapes, *W, *added;
  std::vector<const V*> on_way;    // maps, or their powers, by depth in a trie
  std::vector<int64_t> way;        // scales, by depth
  V valid[VECS], total[VECS], picked[VECS], inv[VECS];
  V weight[VECS];                    // of the cross-entropy of each pixel
  const S *a = nullptr, *b = nullptr, *g = nullptr;  // factors of the image
  int64_t image = 0, start = 0;        // of the tile, and how many of its pixels there are
  int count = 0;
  double *sums = nullptr, *grad_params = nullptr;
  std::vector<S> learned;  // gradients of the parameters that wait for double
  std::vector<Band<S>> bands;
  int held = 0;  // tiles whose sums wait

  explicit Worker(const Job<S>& j)
      : job(j), plan(*j.plan), L(plan.L), C(plan.C), K(j.columns()), CV(C * VECS), powers(!plan.sigmoid && !shaped()), on_way(L + 1),
        way(L + 1), learned(j.num_params), bands(L) {
    for (const Fusion& fusion : plan.fusions)
      if (fusion.kind == ATTENTION)
        for (int64_t i = 0; i < fusion.arity; ++i) gates_of.push_back(gate(fusion, i));
    const int64_t n = all_gates.size();
    const std::pair<V**, int64_t> parts[] = {
        {&P, L * CV}, {&Q, L * CV}, {&G, L * CV}, {&Y, CV}, {&M, CV}, {&E, CV}, {&Z, (L + 1) * CV}, {&D, (L + 1) * CV},
        {&X, L * CV}, {&chosen, L * VECS}, {&chosen_sums, (L + 1) * VECS}, {&gates, L * VECS}, {&scores, n * VECS},
        {&slopes, n * VECS}, {&shapes, shaped() ? CV : 0}, {&W, job.boundary ? CV : 0}, {&added, plan.m * (2 * C + 1)}};
    int64_t size = 0;
    for (auto [part, count] : parts) size += count;
    memory.resize(size);
    V* at = memory.data();
    for (auto [part, count] : parts) *part = at, at += count;
  }

  int64_t gate(const Fusion& fusion, int64_t i) {
    const Gate wanted = {fusion.params + i * C, fusion.params + fusion.arity * C + i, fusion.scales[i]};
    for (size_t k = 0; k < all_gates.size(); ++k)
      if (all_gates[k].weight == wanted.weight && all_gates[k].scale == wanted.scale) return k;
    all_gates.push_back(wanted);
    return all_gates.size() - 1;
  }

  // -- tiles ----------------------------------------------------------------------------------------------------------

  // Read a tile. Pixels that do not count, and those past the end, hold 0 and no class.
  void load(int64_t image, int64_t start, int count) {
    for (int64_t l = 0; l < L; ++l) {
      V* rows = P + l * CV;
      if (count < TILE) std::memset(rows, 0, sizeof(V) * CV);
      if (!job.grids[l].full) interpolate(l, image, start, count, (S*)rows);
      else
        for (int64_t c = 0; c < C; ++c)
          std::memcpy(rows + c * VECS, job.maps[l] + (image * C + c) * job.N + start, sizeof(S) * count);
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
    for (int64_t i = 0; i < CV; ++i) M[i] = (V)(Y[i] > 0);
    for (int64_t c = 0; c < C && job.boundary; ++c) {
      V* row = W + c * VECS;
      std::memset(row, 0, sizeof(V) * VECS);
      std::memcpy(row, job.boundary + (image * C + c) * job.N + start, sizeof(S) * count);
      for (int v = 0; v < VECS; ++v) row[v] = valid[v] > 0 ? row[v] : V{};
    }
    this->image = image, this->start = start, this->count = count;
    if (powers) raise();
    score_gates();
  }

  // Write the gradients: 0 where a pixel does not count, even where others made the loss NaN.
  void store(int64_t image, int64_t start, int count) {
    for (int64_t l = 0; l < L; ++l) {
      V* rows = G + l * CV;
      for (int64_t i = 0; i < CV; ++i) rows[i] = valid[i % VECS] > 0 ? rows[i] : V{};
      if (!job.grids[l].full) gather(l, image, start, count, (const S*)rows);
      else
        for (int64_t c = 0; c < C; ++c)
          std::memcpy(job.grads[l] + (image * C + c) * job.N + start, rows + c * VECS, sizeof(S) * count);
    }
  }

  // Ask for a tile that is read next: its rows lie too far apart for the processor to guess them.
  template <int WRITE, class Rows> void fetch(Rows rows, int64_t image, int64_t start) const {
    for (int64_t l = 0; l < L; ++l)
      for (int64_t c = 0; c < C && job.grids[l].full; ++c)
        for (int line = 0; line < TILE_BYTES; line += 64)
          __builtin_prefetch((const char*)(rows[l] + (image * C + c) * job.N + start) + line, WRITE);
  }

  int64_t tiles_per_image() const { return (job.N + TILE - 1) / TILE; }
  int64_t first_tile(int64_t chunk) const { return tiles_per_image() * job.B * chunk / job.chunks; }

  template <class Visit> void tiles(int64_t chunk, Visit visit) {
    const int64_t per_image = tiles_per_image();
    for (int64_t i = first_tile(chunk), end = first_tile(chunk + 1); i < end; ++i) {
      const int64_t start = i % per_image * TILE;
      if (i + 1 < end && start + 2 * TILE <= job.N) fetch<0>(job.maps, i / per_image, start + TILE);
      visit(i / per_image, start, (int)std::min<int64_t>(TILE, job.N - start));
    }
  }

  void forward(int64_t chunk) {
    std::memset(added, 0, sizeof(V) * plan.m * (2 * C + 1));
    tiles(chunk, [&](int64_t image, int64_t start, int count) {
      double* row = job.sums + (chunk * job.rows() + (plan.per_image ? image : 0)) * job.sums_size();
      if (held == FLUSH || row != sums) flush_sums();
      ++held, sums = row;
      double* counts = sums + plan.m * (2 * C + K);
      load(image, start, count);
      for (int64_t k = 0; k < K; ++k)
        for (int v = 0; v < VECS; ++v) counts[C + k] += lane_sum<S>(job.boundary ? W[k * VECS + v] : valid[v]);
      for (int64_t c = 0; c < C; ++c) {
        V own = V{};
        for (int v = 0; v < VECS; ++v) own += job.boundary ? Y[c * VECS + v] * W[c * VECS + v] : Y[c * VECS + v];
        counts[c] += lane_sum<S>(own);
      }
      for (const TrieNode& node : plan.nodes) add_node(node);
      size_t seen = 0;
      for (const Fusion& fusion : plan.fusions) {
        build(fusion, Z, seen);
        add_losses(fusion.map, Z);
      }
    });
    flush_sums();
    sums = nullptr;
  }

  void flush_sums() {
    if (!held) return;
    const int64_t ours = plan.m * (K - 1);  // more cross-entropies than are held
    for (int64_t i = 0; i < plan.m * (2 * C + 1); ++i)
      sums[i < plan.m ? i : i + ours] += lane_sum<S>(added[i]), added[i] = V{};
    held = 0;
  }

  void backward(int64_t chunk) {
    grad_params = job.grad_params + chunk * job.num_params;
    open_bands(chunk);
    tiles(chunk, [&](int64_t image, int64_t start, int count) {
      if (held++ == FLUSH) flush_learned();
      const int64_t row = plan.per_image ? image * plan.m * C : 0;
      a = job.a + row, b = job.b + row, g = job.g + (job.boundary ? row : 0);
      load(image, start, count);
      if (count == TILE) fetch<1>(job.grads, image, start);
      std::memset(G, 0, sizeof(V) * CV * L);
      std::memset(slopes, 0, sizeof(V) * VECS * all_gates.size());
      for (size_t i = 0; i < plan.nodes.size();) i = back_node(i);
      size_t seen = 0, spread_out = 0;
      for (const Fusion& fusion : plan.fusions) {
        build(fusion, Z, seen);
        adjoint(fusion.map, Z, D);
        spread(fusion, D, spread_out);
      }
      spread_gates();
      store(image, start, count);
    });
    flush_learned();
    close_bands(chunk);
  }

  void flush_learned() {
    std::vector<int64_t> seen;  // maps may share parameters
    for (const Fusion& fusion : plan.fusions)
      if (fusion.kind == CONCAT && !plan.sigmoid && std::find(seen.begin(), seen.end(), fusion.params) == seen.end()) {
        seen.push_back(fusion.params);
        complete(fusion);
      }
    for (int64_t i = 0; i < job.num_params; ++i) grad_params[i] += learned[i];
    std::fill(learned.begin(), learned.end(), S(0));
    held = 0;
  }

  // -- coarse originals -----------------------------------------------------------------------------------------------

  // Visit the parts of a tile that lie on one line of pixels: (first of the tile, pixels, x, y, z).
  template <class Visit> void lines(int64_t start, int count, Visit visit) const {
    const int64_t width = job.sizes[2], height = job.sizes[1];
    for (int t = 0; t < count;) {
      const int64_t at = start + t, x = at % width, y = at / width % height, z = at / width / height;
      const int n = (int)std::min<int64_t>(count - t, width - x);
      visit(t, n, x, y, z);
      t += n;
    }
  }

  // Visit the coarse lines that a line of pixels reads: (line of its image, share).
  template <class Visit> void corners(const Grid<S>& grid, int64_t y, int64_t z, Visit visit) const {
    const S up = grid.y.share[y], deep = grid.z.share[z];
    const int64_t low = grid.y.at[y], high = grid.y.next(y), near = grid.z.at[z] * grid.y.own, far = grid.z.next(z) * grid.y.own;
    visit(near + low, (1 - deep) * (1 - up));
    if (up != 0) visit(near + high, (1 - deep) * up);
    if (deep != 0) visit(far + low, deep * (1 - up));
    if (deep != 0 && up != 0) visit(far + high, deep * up);
  }

  void interpolate(int64_t l, int64_t image, int64_t start, int count, S* rows) const {
    const Grid<S>& grid = job.grids[l];
    lines(start, count, [&](int t, int n, int64_t x, int64_t y, int64_t z) {
      const int32_t* at = grid.x.at.data() + x;
      const S* share = grid.x.share.data() + x;
      const int64_t first = at[0], wanted = grid.x.next(x + n - 1) - first + 1;
      for (int64_t c = 0; c < C; ++c) {
        const S* map = job.maps[l] + (image * C + c) * grid.pixels() + first;
        S line[TILE + 8];  // rounding may skip a value or two
        bool begun = false;
        corners(grid, y, z, [&](int64_t row, S part) {
          const S* from = map + row * grid.x.own;
          if (begun) for (int64_t k = 0; k < wanted; ++k) line[k] += part * from[k];
          else for (int64_t k = 0; k < wanted; ++k) line[k] = part * from[k];
          begun = true;
        });
        line[wanted] = line[wanted - 1];
        S* out = rows + c * TILE + t;
        for (int i = 0; i < n; ++i) {
          const S* pair = line + (at[i] - first);
          out[i] = (1 - share[i]) * pair[0] + share[i] * pair[1];
        }
      }
    });
  }

  // The adjoint of interpolate, into the bands.
  void gather(int64_t l, int64_t image, int64_t start, int count, const S* rows) {
    lines(start, count, [&](int t, int n, int64_t x, int64_t y, int64_t z) {
      int64_t c = 0;
      for (; c + 4 <= C; c += 4) gather_line<4>(l, image, c, rows + c * TILE + t, n, x, y, z);
      for (; c < C; ++c) gather_line<1>(l, image, c, rows + c * TILE + t, n, x, y, z);
    });
  }

  // Of several classes at a time: one sum has to wait for the one before.
  template <int ROWS> void gather_line(int64_t l, int64_t image, int64_t c, const S* g, int n, int64_t x, int64_t y, int64_t z) {
    const Grid<S>& grid = job.grids[l];
    const int32_t* at = grid.x.at.data() + x;
    const S* share = grid.x.share.data() + x;
    const int64_t first = at[0], wanted = grid.x.next(x + n - 1) - first + 1;
    S line[ROWS][TILE + 8];
    for (int r = 0; r < ROWS; ++r) std::fill_n(line[r], wanted + 1, S(0));
    for (int i = 0; i < n;) {
      const int32_t here = at[i];
      S left[ROWS] = {}, right[ROWS] = {};
      for (; i < n && at[i] == here; ++i)
        for (int r = 0; r < ROWS; ++r) {
          const S part = share[i] * g[r * TILE + i];
          left[r] += g[r * TILE + i] - part, right[r] += part;
        }
      for (int r = 0; r < ROWS; ++r) line[r][here - first] += left[r], line[r][here - first + 1] += right[r];
    }
    Band<S>& band = bands[l];
    for (int r = 0; r < ROWS; ++r) {
      if (at[n - 1] + 1 - first == wanted) line[r][wanted - 1] += line[r][wanted];  // past the border is the border
      S* sums = band.sums.data() + (c + r) * band.lines * grid.x.own + first;
      corners(grid, y, z, [&](int64_t row, S part) {
        S* to = sums + (image * grid.lines() + row - band.first) * grid.x.own;
        for (int64_t k = 0; k < wanted; ++k) to[k] += part * line[r][k];
      });
    }
  }

  // Lines that the pixels of a chunk read, of all images in a row.
  void open_bands(int64_t chunk) {
    const int64_t from = first_tile(chunk), end = first_tile(chunk + 1), width = job.sizes[2], height = job.sizes[1];
    for (int64_t l = 0; l < L; ++l) {
      const Grid<S>& grid = job.grids[l];
      if (grid.full || from == end) continue;
      const auto line = [&](int64_t tile, bool last) {
        const int64_t start = tile % tiles_per_image() * TILE;
        const int64_t pixel = last ? std::min<int64_t>(start + TILE, job.N) - 1 : start;
        const int64_t y = pixel / width % height, z = pixel / width / height, deep = last ? grid.z.next(z) : grid.z.at[z];
        // Where there are planes, the next one may read lines above those of this one.
        const int64_t own = last ? grid.y.next(y) : grid.y.at[y], edge = last ? grid.y.own - 1 : 0;
        return tile / tiles_per_image() * grid.lines() + deep * grid.y.own + (job.sizes[0] > 1 ? edge : own);
      };
      Band<S>& band = bands[l];
      band.first = line(from, false);
      band.lines = line(end - 1, true) - band.first + 1;
      band.sums.assign(C * band.lines * grid.x.own, S(0));
    }
  }

  void close_bands(int64_t chunk) {
    std::lock_guard<std::mutex> guard(job.bands->lock);
    auto& waiting = job.bands->waiting;
    waiting[chunk].swap(bands);
    bands.resize(L);
    for (auto next = waiting.find(job.bands->next); next != waiting.end(); next = waiting.find(++job.bands->next)) {
      for (int64_t l = 0; l < L; ++l) add_band(l, next->second[l]);
      waiting.erase(next);
    }
  }

  void add_band(int64_t l, const Band<S>& band) const {
    const Grid<S>& grid = job.grids[l];
    const int64_t width = grid.x.own;
    const S* from = band.sums.data();
    for (int64_t c = 0; c < C && !band.sums.empty(); ++c)
      for (int64_t line = band.first; line < band.first + band.lines; ++line, from += width) {
        S* to = job.grads[l] + ((line / grid.lines() * C + c) * grid.lines() + line % grid.lines()) * width;
        for (int64_t k = 0; k < width; ++k) to[k] += from[k];
      }
  }

  // -- losses of one map ----------------------------------------------------------------------------------------------

  // e = e^(z − max), total = Σ e. If LOSS, picked is z − max at the pixel's label. Two vectors at once.
  template <bool LOSS> void softmax(const V* z, V* e) {
    for (int v = 0; v < VECS; v += 2) {
      V top[2] = {z[v], z[v + 1]}, sum[2] = {}, mine[2] = {};
      for (int64_t c = 1; c < C; ++c)
        for (int k = 0; k < 2; ++k) top[k] = larger(top[k], z[c * VECS + v + k]);
      for (int64_t c = 0; c < C; ++c) {
        const V d[2] = {z[c * VECS + v] - top[0], z[c * VECS + v + 1] - top[1]};
        V *x = e + c * VECS + v, powers[2];
        exp_down<S, 2>(d, powers);
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
          if (LOSS) mine[k] += (V)((I)d[k] & (I)M[c * VECS + v + k]);  // no product: of 0 and −inf that is NaN
          x[k] = powers[k];
          sum[k] += powers[k];
        }
      }
      for (int k = 0; k < 2; ++k) {
        total[v + k] = sum[k];
        if (LOSS) picked[v + k] = mine[k];
      }
    }
  }

  // Σ log Σ e − (z_label − max) of the tile, from total and picked.
  V cross_entropy() const {
    V lost = V{};
    for (int v = 0; v < VECS; v += 4) {
      V product = V{} + 1, exponent = V{};
      for (int k = v; k < v + 4; ++k) {
        const auto counts = valid[k] > 0;
        if (job.weights) lost += counts ? weight[k] * (log_of<S>(total[k]) - picked[k]) : V{};
        else product *= counts ? total[k] : V{} + 1, exponent += picked[k];
      }
      if (!job.weights) lost += log_of<S>(product) - exponent;  // finite: dispatch.py limits C
    }
    return lost;
  }

  // What a map adds to the sums, from its exponentials, total and picked.
  void judge(int64_t map, const V* e) {
    for (int v = 0; v < VECS; ++v) inv[v] = valid[v] / total[v];
    added[map] += cross_entropy();
    judge_regions(map, e);
  }

  void judge_regions(int64_t map, const V* e) {
    if (job.boundary) return plan.squares ? judge<true, true>(map, e) : judge<false, true>(map, e);
    if (plan.squares) judge<true, false>(map, e);
    else judge<false, false>(map, e);
  }

  template <bool SQUARES, bool WEIGHED> void judge(int64_t map, const V* e) {
    V *overlap = added + plan.m + map * C, *spread = overlap + plan.m * C;
    for (int64_t c = 0; c < C; ++c) {
      V sum[4] = {}, shared[4] = {};  // of every fourth vector: no sum waits for the one before
      for (int v = 0; v < VECS; v += 4)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const V p = e[c * VECS + v + k] * inv[v + k], weighed = WEIGHED ? p * W[c * VECS + v + k] : p;
          sum[k] += SQUARES ? p * weighed : weighed;
          shared[k] += weighed * Y[c * VECS + v + k];
        }
      overlap[c] += (shared[0] + shared[1]) + (shared[2] + shared[3]);
      spread[c] += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
  }

  // For channels by themselves: E = σ(z) where the pixel counts. With the terms of torch's cross-entropy with
  // logits, so that what is infinite there is infinite here.
  template <bool LOSS> double sigmoid(const V* z) {
    double ce = 0;
    for (int64_t c = 0; c < C; ++c)
      ce += sigmoid<LOSS>(z + c * VECS, Y + c * VECS, E + c * VECS, job.weights ? job.weights[c] : 1);
    return ce;
  }

  template <bool LOSS> double sigmoid(const V* z, const V* y, V* p, S weight) {
    const bool weighted = job.weights;
    V product = V{} + 1, rest = V{}, lost_together = V{};
    for (int v = 0; v < VECS; ++v) {
      const V negative = z[v] > 0 ? -z[v] : z[v];
      const V e = exp_down<S>(negative), sum = 1 + e;
      p[v] = valid[v] * (z[v] > 0 ? V{} + 1 : e) / sum;
      if (LOSS && weighted) {
        const V lost = log_of<S>(sum) + (z[v] > 0 ? V{} : -z[v]);  // of what is true; of what is not it is z more
        rest += valid[v] > 0 ? (y[v] > 0 ? weight * lost : lost + z[v]) : V{};
      } else if (LOSS) {
        product *= valid[v] > 0 ? sum : V{} + 1;
        rest += (valid[v] - y[v]) * z[v] - valid[v] * (z[v] > 0 ? V{} : z[v]);
        if (v % 4 == 3) lost_together += log_of<S>(product), product = V{} + 1;
      }
    }
    return lane_sum<S>(lost_together) + lane_sum<S>(rest);
  }

  // -- cross-entropies with a focal factor, or of smoothed labels -------------------------------------------------------
  //
  // With t what a pixel is to be, weights included, the loss is −Σ t·log p, and its slope (Σ t)·p − t. A focal loss has
  // the factor u^γ, its slope u^γ·(1 − γ·p·(log p) / u), with u = 1 − p and p that of what is true. `shapes` holds the
  // factors of the slopes, what a pixel weighs among them, 0 where it does not count: a row for each pixel, with a
  // sigmoid one for each channel.

  bool shaped() const { return plan.smoothing > 0 || plan.gamma > 0 || job.boundary || job.each || job.cuts; }

  // Hand out the losses of a vector of pixels.
  void keep(int64_t map, int64_t c, int v, V each, V counts) const {
    const int some = std::min(count - v * LANES, LANES);
    if (some <= 0) return;
    const V kept = counts > 0 ? each : V{} - 1;
    const int64_t row = map * (plan.sigmoid ? C : 1) + c;
    std::memcpy(job.each + (row * job.B + image) * job.N + start + v * LANES, &kept, sizeof(S) * some);
  }

  // With which share losses count where only the largest do, as shares_of_largest of top_k.py says it.
  V share(int64_t map, V each) const {
    const S least = job.cuts[map], room = Real<S>::alike * std::abs(least);
    const V away = each - least, apart = away > 0 ? away : -away;
    return (each <= least + room ? V{} : V{} + 1) + (apart <= room ? V{} + job.cuts[plan.m + map] : V{});
  }

  // Factors of a focal loss and of its slope, from what is true: p, u = 1 − p, and −log p.
  std::pair<V, V> focal(V p, V u, V lost) const {
    const S gamma = (S)plan.gamma;
    const V power = exp_down<S>(-gamma * log_of<S>(1 / larger(V{} + Real<S>::tiny, u)));
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
  template <bool LOSS> void shaped_softmax(int64_t map, const V* z) {
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
      const V log_sum = log_of<S>(sum), lost = log_sum - picked, aim = kept * weight[v];
      V each = aim > 0 ? aim * lost : V{}, factor = V{} + 1;
      if (part > 0) each += spread * log_sum - away;
      if (plan.gamma > 0) {
        const auto [power, slope] = focal(mine / sum, others / sum, lost);
        each *= power, factor = slope;
      }
      if (!LOSS && job.cuts) factor *= share(map, each);
      if (LOSS && job.each) keep(map, 0, v, each, valid[v]);
      shapes[v] = valid[v] > 0 ? factor : V{};
      if (LOSS) total += valid[v] > 0 ? each : V{};
    }
    if (LOSS) sums[map] += lane_sum<S>(total);
  }

  // As sigmoid: of what is true w·y', of what is not 1 − y', with y' = (1 − ε)·y + ε/2.
  template <bool LOSS> void shaped_sigmoid(int64_t map, const V* z) {
    for (int64_t c = 0; c < C; ++c) {
      V total = V{};
      for (int64_t i = c * VECS; i < (c + 1) * VECS; ++i) {
        const auto above = z[i] > 0;
        const V e = exp_down<S>(above ? -z[i] : z[i]), sum = 1 + e, log_sum = log_of<S>(sum);
        const V p = (above ? V{} + 1 : e) / sum, u = (above ? e : V{} + 1) / sum;
        const V lost = log_sum + (above ? V{} : -z[i]), lost_other = log_sum + (above ? z[i] : V{});
        const V aim = channel_aim(c, Y[i]), other = 1 - smoothed(Y[i]);
        V each = (aim > 0 ? aim * lost : V{}) + (other > 0 ? other * lost_other : V{}), factor = V{} + 1;
        if (plan.gamma > 0) {
          const auto own = Y[i] > 0;
          const auto [power, slope] = focal(own ? p : u, own ? u : p, own ? lost : lost_other);
          each *= power, factor = slope;
        }
        if (!LOSS && job.cuts) factor *= share(map, each);
        if (LOSS && job.each) keep(map, c, i % VECS, each, valid[i % VECS]);
        if (job.boundary) each *= W[i], factor *= W[i];
        const auto counts = valid[i % VECS] > 0;
        E[i] = counts ? p : V{};
        shapes[i] = counts ? factor : V{};
        if (LOSS) total += counts ? each : V{};
      }
      if (LOSS) sums[job.boundary ? map * C + c : map] += lane_sum<S>(total);
    }
  }

  V smoothed(V y) const { return (1 - (S)plan.smoothing) * y + (S)plan.smoothing / 2; }
  V channel_aim(int64_t c, V y) const { return class_weight(c) * smoothed(y); }

  template <bool SQUARES> void shaped_adjoint(int64_t map, const V* z, V* d) {
    const S *a = this->a + map * C, *b = this->b + map * C, *g = this->g + map * K;
    const auto pull = [&](int64_t c, V p, V y) { return (SQUARES ? a[c] * p : V{} + a[c]) - b[c] * y; };
    if (plan.sigmoid) {
      shaped_sigmoid<false>(map, z);
      for (int64_t c = 0; c < C; ++c)
        for (int64_t i = c * VECS; i < (c + 1) * VECS; ++i) {
          const V p = E[i], y = Y[i], aim = channel_aim(c, y), whole = aim + 1 - smoothed(y);
          const V region = p * (1 - p) * pull(c, p, y);
          d[i] = (job.boundary ? W[i] * region : region) + g[K > 1 ? c : 0] * shapes[i] * (whole * p - aim);
        }
      return;
    }
    shaped_softmax<false>(map, z);
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
        d[c * VECS + v] = p * (pull(c, p, y) - mean[v]) + g[0] * shapes[v] * (whole * p - aim);
      }
  }

  // -- what both passes do with a map ---------------------------------------------------------------------------------

  void add_losses(int64_t map, const V* z) {
    if (powers) {
      softmax<true>(z, E);
      return judge(map, E);
    }
    if (!shaped()) sums[map] += sigmoid<true>(z);
    else if (plan.sigmoid) shaped_sigmoid<true>(map, z);
    else shaped_softmax<true>(map, z);
    if (plan.sigmoid)
      for (int v = 0; v < VECS; ++v) inv[v] = V{} + 1;
    judge_regions(map, E);
  }

  // d = gradient of the total with respect to the logits z of a map.
  void adjoint(int64_t map, const V* z, V* d) {
    if (shaped()) return plan.squares ? shaped_adjoint<true>(map, z, d) : shaped_adjoint<false>(map, z, d);
    if (plan.sigmoid) return plan.squares ? sigmoid_adjoint<true>(map, z, d) : sigmoid_adjoint<false>(map, z, d);
    softmax<false>(z, E);
    softmax_adjoint(map, E, d);
  }

  template <bool SQUARES> void sigmoid_adjoint(int64_t map, const V* z, V* d) {
    const S *a = this->a + map * C, *b = this->b + map * C, g = this->g[map], *weights = job.weights;
    sigmoid<false>(z);
    for (int64_t c = 0; c < C; ++c)
      for (int64_t i = c * VECS; i < (c + 1) * VECS; ++i) {
        const V p = E[i], y = Y[i], slope = p * (1 - p), pull = (SQUARES ? a[c] * p : V{} + a[c]) - b[c] * y;
        const V gain = weights ? g * (y > 0 ? V{} + weights[c] : V{} + 1) : V{} + g;
        d[i] = slope * pull + gain * (p - y);
      }
  }

  // The same from the map's exponentials and total.
  void softmax_adjoint(int64_t map, const V* e, V* d) {
    if (plan.squares) softmax_adjoint<true>(map, e, d);
    else softmax_adjoint<false>(map, e, d);
  }

  template <bool SQUARES> void softmax_adjoint(int64_t map, const V* e, V* d) {
    const S *a = this->a + map * C, *b = this->b + map * C, g = this->g[map];
    for (int v = 0; v < VECS; ++v) inv[v] = valid[v] / total[v];
    for (int v = 0; v < VECS; v += 4) {
      V mean[4] = {}, gain[4];
      for (int k = 0; k < 4; ++k) gain[k] = g * weight[v + k];
      for (int64_t c = 0; c < C; ++c) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const int64_t i = c * VECS + v + k;
          const V p = e[i] * inv[v + k], pull = (SQUARES ? a[c] * p : V{} + a[c]) - b[c] * Y[i];
          d[i] = pull;
          mean[k] += p * pull;
        }
      }
      for (int64_t c = 0; c < C; ++c) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const int64_t i = c * VECS + v + k;
          const V p = e[i] * inv[v + k];
          d[i] = p * (d[i] - mean[k]) + gain[k] * (p - Y[i]);  // 0 to the last bit where p is y
        }
      }
    }
  }

  // -- sums and products ----------------------------------------------------------------------------------------------

  // Powers of the originals, and their exponents at the pixels' labels.
  void raise() {
    for (int64_t l = 0; l < L; ++l) {
      softmax<true>(P + l * CV, Q + l * CV);
      std::memcpy(chosen + l * VECS, picked, sizeof picked);
    }
  }

  // The powers of a sum: those of its parent times those of one scale more; also total and picked.
  const V* sum_powers(const TrieNode& node) {
    const V *last = Q + node.scale * CV, *mine = chosen + node.scale * VECS;
    V* here = chosen_sums + node.depth * VECS;
    way[node.depth] = node.scale;
    if (node.depth == 1) {
      for (int v = 0; v < VECS; ++v) {
        V sum = last[v];
        for (int64_t c = 1; c < C; ++c) sum += last[c * VECS + v];
        total[v] = sum, here[v] = picked[v] = mine[v];
      }
      return last;
    }
    const V *parent = on_way[node.depth - 1], *before = here - VECS;
    V* e = Z + node.depth * CV;
    for (int v = 0; v < VECS; v += 4) {
      V sum[4] = {};
      for (int64_t c = 0; c < C; ++c) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const int64_t i = c * VECS + v + k;
          sum[k] += e[i] = parent[i] * last[i];
        }
      }
      for (int k = v; k < v + 4; ++k) total[k] = sum[k - v], here[k] = picked[k] = before[k] + mine[k];
    }
    return e;
  }

  // Where scales are of different minds, all powers of their sum are small, and too little is left of the digits.
  bool faint() const {
    auto small = total[0] < S(1e-9);
    for (int v = 1; v < VECS; ++v) small |= total[v] < S(1e-9);
    int64_t words[BYTES / 8], any = 0;
    std::memcpy(words, &small, sizeof words);
    for (int64_t word : words) any |= word;
    return any;
  }

  // The exponentials of the sum at a node, with total and picked.
  template <bool LOSS> const V* sum_softmax(const TrieNode& node) {
    const V* e = on_way[node.depth] = sum_powers(node);
    if (node.map < 0 || !faint()) return e;
    for (int64_t i = 0; i < CV; ++i) {
      V z = P[way[1] * CV + i];
      for (int64_t depth = 2; depth <= node.depth; ++depth) z += P[way[depth] * CV + i];
      X[i] = z;
    }
    softmax<LOSS>(X, E);
    return E;
  }

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
    if (powers && node.kind == ADD) {
      const V* e = sum_softmax<true>(node);
      if (node.map >= 0) judge(node.map, e);
      return;
    }
    on_way[node.depth] = node_map(node);
    if (node.map >= 0) add_losses(node.map, on_way[node.depth]);
  }

  // Visit a node and all below it; leaves in D[depth] the adjoint of its map and hands it on to the node's own scale.
  size_t back_node(size_t i) {
    const TrieNode& node = plan.nodes[i];
    const V* z = nullptr;
    V* d = D + node.depth * CV;
    if (powers && node.kind == ADD) {
      const V* e = sum_softmax<false>(node);
      if (node.map >= 0) softmax_adjoint(node.map, e, d);
    } else {
      z = on_way[node.depth] = node_map(node);
      if (node.map >= 0) adjoint(node.map, z, d);
    }
    if (node.map < 0) std::memset(d, 0, sizeof(V) * CV);
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

  void build(const Fusion& fusion, V* z, size_t& gates_seen) {
    switch (fusion.kind) {
      case CONCAT: return build_concat(fusion, z);
      case ATTENTION: return build_attention(fusion, z, gates_seen);
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

  void spread(const Fusion& fusion, V* d, size_t& gates_seen) {
    switch (fusion.kind) {
      case CONCAT: return spread_concat(fusion, d);
      case ATTENTION: return spread_attention(fusion, d, gates_seen);
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

  // concat: z = W·P + b, W (C, arity·C) by rows. Blocks of up to MOST rows by 2 vectors, or of up to 3 by 4, stay in
  // the registers; wide ones load more.

  // Cut rows into blocks of about the same height, at most MOST: (first row, its block's height as a constant).
  template <class Visit> INLINE static void blocks(int64_t rows, Visit visit) {
    for (int64_t row = 0; row < rows;) {
      const int64_t left = rows - row, height = left / ((left + MOST - 1) / MOST);
      switch (height) {
        case 1: visit(row, std::integral_constant<int, 1>{}); break;
        case 2: visit(row, std::integral_constant<int, 2>{}); break;
        case 3: visit(row, std::integral_constant<int, 3>{}); break;
        case 4: visit(row, std::integral_constant<int, 4>{}); break;
        case 5: visit(row, std::integral_constant<int, 5>{}); break;
        case 6: visit(row, std::integral_constant<int, 6>{}); break;
        case 7: visit(row, std::integral_constant<int, std::min(7, MOST)>{}); break;
        case 8: visit(row, std::integral_constant<int, std::min(8, MOST)>{}); break;
        case 9: visit(row, std::integral_constant<int, std::min(9, MOST)>{}); break;
        default: visit(row, std::integral_constant<int, MOST>{});
      }
      row += height;
    }
  }

  void build_concat(const Fusion& fusion, V* z) const {
    const S *w = job.concat.data() + fusion.params, *bias = w + C * C * fusion.arity;
    blocks(outputs(), [&](int64_t o, auto rows) { concat_rows<rows.value>(fusion, w, bias, o, z); });
    std::memset(z + outputs() * VECS, 0, sizeof(V) * (CV - outputs() * VECS));
  }

  int64_t outputs() const { return plan.sigmoid ? C : C - 1; }  // what Job::lower leaves

  template <int ROWS>
  void concat_rows(const Fusion& fusion, const S* w, const S* bias, int64_t o, V* z) const {
    constexpr int WIDE = ROWS > 3 ? 2 : 4;
    const int64_t width = fusion.arity * C;
    for (int v = 0; v < VECS; v += WIDE) {
      V acc[ROWS][WIDE];
#pragma GCC unroll 10
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; ++k) acc[r][k] = V{} + bias[o + r];
      for (int64_t j = 0; j < fusion.arity; ++j) {
        const V* in = P + fusion.scales[j] * CV + v;
        const S* row = w + o * width + j * C;
        for (int64_t c = 0; c < C; ++c)
#pragma GCC unroll 10
          for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
            for (int k = 0; k < WIDE; ++k) acc[r][k] += row[r * width + c] * in[c * VECS + k];
      }
      // An infinite logit makes all outputs infinite, and the softmax of infinities is NaN; their differences alone
      // would not tell.
#pragma GCC unroll 10
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; ++k)
          z[(o + r) * VECS + v + k] = plan.sigmoid ? acc[r][k] : acc[r][k] + (acc[r][k] - acc[r][k]);
    }
  }

  void spread_concat(const Fusion& fusion, const V* d) {
    const int64_t width = fusion.arity * C, rows = outputs();
    const S* w = job.concat.data() + fusion.params;
    S *grad_w = learned.data() + fusion.params, *grad_bias = grad_w + C * width;
    for (int64_t o = 0; o < rows; o += 8) {
      const int some = (int)std::min<int64_t>(rows - o, 8);
      V sum[8] = {};
      for (int r = 0; r < some; ++r)
        for (int v = 0; v < VECS; ++v) sum[r] += d[(o + r) * VECS + v];
      S all[8];
      lane_sums<8>(sum, all);
      for (int r = 0; r < some; ++r) grad_bias[o + r] += all[r];
    }
    for (int64_t j = 0; j < fusion.arity; ++j) {
      V* grad = G + fusion.scales[j] * CV;
      blocks(C, [&](int64_t c, auto rows) { concat_grad<rows.value>(w + j * C + c, width, d, grad + c * VECS); });
      outer(d, rows, P + fusion.scales[j] * CV, grad_w + j * C, width);
    }
  }

  // The gradient of what belongs to the last class, from that of the others.
  void complete(const Fusion& fusion) {
    const int64_t width = fusion.arity * C;
    S *grad_w = learned.data() + fusion.params, *grad_bias = grad_w + C * width;
    for (int64_t o = 0; o < C - 1; ++o) {
      for (int64_t i = 0; i < width; ++i) grad_w[(C - 1) * width + i] -= grad_w[o * width + i];
      grad_bias[C - 1] -= grad_bias[o];
    }
  }

  // grad[r] += Σ_o W[o][r]·d[o]
  template <int ROWS> void concat_grad(const S* w, int64_t width, const V* d, V* grad) const {
    constexpr int WIDE = ROWS > 3 ? 2 : 4;
    for (int v = 0; v < VECS; v += WIDE) {
      V acc[ROWS][WIDE];
#pragma GCC unroll 10
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; ++k) acc[r][k] = grad[r * VECS + v + k];
      for (int64_t o = 0; o < outputs(); ++o)
#pragma GCC unroll 10
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
          for (int k = 0; k < WIDE; ++k) acc[r][k] += w[o * width + r] * d[o * VECS + v + k];
#pragma GCC unroll 10
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; ++k) grad[r * VECS + v + k] = acc[r][k];
    }
  }

  // to[r·width + c] += Σ over pixels of d[r]·p[c], for all rows of d and all classes, TALL·4 or eight sums at a time.
  void outer(const V* d, int64_t rows, const V* p, S* to, int64_t width) const {
    int64_t r = 0;
    for (; r + TALL <= rows; r += TALL)
      for (int64_t c = 0; c + 4 <= C; c += 4) products<TALL, 4>(d + r * VECS, p + c * VECS, to + r * width + c, width);
    for (; r < rows; ++r)
      for (int64_t c = 0; c + 4 <= C; c += 4) products<1, 4>(d + r * VECS, p + c * VECS, to + r * width + c, width);
    for (int64_t c = C / 4 * 4; c < C; ++c) {
      for (r = 0; r + 8 <= rows; r += 8) products<8, 1>(d + r * VECS, p + c * VECS, to + r * width + c, width);
      for (; r < rows; ++r) products<1, 1>(d + r * VECS, p + c * VECS, to + r * width + c, width);
    }
  }

  template <int ROWS, int COLUMNS> INLINE void products(const V* d, const V* p, S* to, int64_t width) const {
    constexpr int N = ROWS * COLUMNS > 8 ? 16 : 8;
    V acc[N] = {};
#pragma GCC unroll 2
    for (int v = 0; v < VECS; ++v)
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < COLUMNS; ++c) acc[r * COLUMNS + c] += d[r * VECS + v] * p[c * VECS + v];
    S all[N];
    lane_sums<N>(acc, all);
    for (int r = 0; r < ROWS; ++r)
      for (int c = 0; c < COLUMNS; ++c) to[r * width + c] += all[r * COLUMNS + c];
  }

  // attention: gates = softmax over j of (w_j·P_j + b_j), w (arity, C); z = Σ gate_j·P_j

  // What is inside the softmax, once for all maps that share it.
  void score_gates() {
    for (size_t k = 0; k < all_gates.size(); ++k) {
      const V* p = P + all_gates[k].scale * CV;
      const S* w = job.params + all_gates[k].weight;
      for (int v = 0; v < VECS; v += 4) {
        V sum[4] = {};
        for (int64_t c = 0; c < C; ++c)
          for (int i = 0; i < 4; ++i) sum[i] += w[c] * p[c * VECS + v + i];
        for (int i = 0; i < 4; ++i) scores[k * VECS + v + i] = sum[i] + job.params[all_gates[k].bias];
      }
    }
  }

  void build_attention(const Fusion& fusion, V* z, size_t& seen) {
    const int64_t *own = gates_of.data() + seen, arity = fusion.arity;
    seen += arity;
    for (int v = 0; v < VECS; v += 4) {
      V top[4], sum[4] = {};
      for (int k = 0; k < 4; ++k) top[k] = scores[own[0] * VECS + v + k];
      for (int64_t j = 1; j < arity; ++j)
        for (int k = 0; k < 4; ++k) top[k] = larger(top[k], scores[own[j] * VECS + v + k]);
      for (int64_t j = 0; j < arity; ++j) {
        V d[4], *gate = gates + j * VECS + v;
        for (int k = 0; k < 4; ++k) d[k] = scores[own[j] * VECS + v + k] - top[k];
        exp_down<S, 4>(d, d);
        for (int k = 0; k < 4; ++k) sum[k] += gate[k] = d[k];
      }
      for (int k = 0; k < 4; ++k) sum[k] = 1 / sum[k];
      for (int64_t j = 0; j < arity; ++j)
        for (int k = 0; k < 4; ++k) gates[j * VECS + v + k] *= sum[k];
    }
    switch (arity) {
      case 1: return blend<1>(fusion, z);
      case 2: return blend<2>(fusion, z);
      case 3: return blend<3>(fusion, z);
      case 4: return blend<4>(fusion, z);
    }
    blend<4>(fusion, z);
    for (int64_t j = 4; j < arity; ++j)
      for (int64_t i = 0; i < CV; ++i) z[i] += gates[j * VECS + i % VECS] * P[fusion.scales[j] * CV + i];
  }

  // z = Σ gate_j·P_j over the first few scales
  template <int ARITY> void blend(const Fusion& fusion, V* z) const {
    const V* p[ARITY];
    for (int j = 0; j < ARITY; ++j) p[j] = P + fusion.scales[j] * CV;
    for (int v = 0; v < VECS; v += 2)
      for (int64_t c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int k = v; k < v + 2; ++k) {
          V sum = gates[k] * p[0][c * VECS + k];
#pragma GCC unroll 4
          for (int j = 1; j < ARITY; ++j) sum += gates[j * VECS + k] * p[j][c * VECS + k];
          z[c * VECS + k] = sum;
        }
  }

  void spread_attention(const Fusion& fusion, const V* d, size_t& seen) {
    const int64_t *own = gates_of.data() + seen, arity = fusion.arity;
    V mean[VECS] = {}, *slope = X;
    seen += arity;
    int64_t j = 0;
    if (arity == 3) spread_gated<3>(fusion, j, d, slope), j += 3;
    for (; j + 2 <= arity; j += 2) spread_gated<2>(fusion, j, d, slope);
    if (j < arity) spread_gated<1>(fusion, j, d, slope);
    for (j = 0; j < arity; ++j)
      for (int v = 0; v < VECS; ++v) mean[v] += gates[j * VECS + v] * slope[j * VECS + v];
    for (j = 0; j < arity; ++j)
      for (int v = 0; v < VECS; ++v) slopes[own[j] * VECS + v] += gates[j * VECS + v] * (slope[j * VECS + v] - mean[v]);
  }

  // To SOME of the scales: grad_j += gate_j·d, and slope_j = Σ d·P_j
  template <int SOME> void spread_gated(const Fusion& fusion, int64_t first, const V* d, V* slope) {
    const V *p[SOME], *gate = gates + first * VECS;
    V* grad[SOME];
    for (int j = 0; j < SOME; ++j)
      p[j] = P + fusion.scales[first + j] * CV, grad[j] = G + fusion.scales[first + j] * CV;
    for (int v = 0; v < VECS; v += 2) {
      V sum[SOME][2] = {};
      for (int64_t c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
          const int64_t i = c * VECS + v + k;
          const V own = d[i];
#pragma GCC unroll 3
          for (int j = 0; j < SOME; ++j) {
            sum[j][k] += own * p[j][i];
            grad[j][i] += gate[j * VECS + v + k] * own;
          }
        }
      for (int j = 0; j < SOME; ++j)
        for (int k = 0; k < 2; ++k) slope[(first + j) * VECS + v + k] = sum[j][k];
    }
  }

  // From the scores of the gates to originals and parameters.
  void spread_gates() {
    for (size_t k = 0; k < all_gates.size(); ++k) {
      const V *slope = slopes + k * VECS, *p = P + all_gates[k].scale * CV;
      const S* w = job.params + all_gates[k].weight;
      V *grad = G + all_gates[k].scale * CV, sum = V{};
      for (int v = 0; v < VECS; ++v) sum += slope[v];
      learned[all_gates[k].bias] += lane_sum<S>(sum);
      for (int64_t c = 0; c < C; ++c)
        for (int v = 0; v < VECS; ++v) grad[c * VECS + v] += w[c] * slope[v];
      outer(slope, 1, p, learned.data() + all_gates[k].weight, 0);
    }
  }
};

// Python fixes the chunks, and each has sums of its own. So the result does not depend on the number of threads, nor on
// which thread is faster. Returns false if there was no memory.
template <class S, bool BACK> bool run(const Job<S>& job, int threads) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  auto work = [&] {
    const NoDenormals guard;
    try {
      Worker<S, TILE_BYTES / BYTES> worker(job);  // no memory: the other workers do it all
      for (int64_t chunk; (chunk = next++) < job.chunks;) try {
          if (BACK) worker.backward(chunk);
          else worker.forward(chunk);
        } catch (const std::exception&) {
          failed = true;
        }
    } catch (const std::exception&) {
    }
  };
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < threads && i < job.chunks; ++i) others.emplace_back(work);
  } catch (const std::exception&) {  // the system gives no more threads: those that run do it all
  }
  work();
  for (auto& thread : others) thread.join();
  return next >= job.chunks && !failed;
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

// Both return 0, or 1 if there was no memory. `shapes` are the three axes of the labels, then of each original.
#define LOMIX_EXPORT(S, NAME)                                                                                          \
  extern "C" int lomix_forward_##NAME(const int64_t* code, const S* const* maps, const int64_t* shapes,                \
                                      const int64_t* labels, const S* params, const S* weights, const S* boundary,     \
                                      int64_t B, int64_t ignore, int64_t chunks, double* sums, S* each, int threads) { \
    return guarded([&] {                                                                                               \
      const KernelPlan plan(code);                                                                                     \
      Job<S> job(&plan, maps, shapes, labels, params, weights, boundary, B, ignore, 0, chunks);                        \
      job.sums = sums, job.each = each;                                                                                \
      return run<S, false>(job, threads);                                                                              \
    });                                                                                                                \
  }                                                                                                                    \
  extern "C" int lomix_backward_##NAME(const int64_t* code, const S* const* maps, const int64_t* shapes,               \
                                       const int64_t* labels, const S* params, const S* weights, const S* boundary,    \
                                       int64_t B, int64_t ignore, int64_t chunks, int64_t num_params, const S* a,      \
                                       const S* b, const S* g, const S* cuts, S* const* grads, double* grad_params,    \
                                       int threads) {                                                                  \
    return guarded([&] {                                                                                               \
      const KernelPlan plan(code);                                                                                     \
      Bands<S> bands;                                                                                                  \
      Job<S> job(&plan, maps, shapes, labels, params, weights, boundary, B, ignore, num_params, chunks);               \
      job.a = a, job.b = b, job.g = g, job.cuts = cuts;                                                                \
      job.grads = grads, job.grad_params = grad_params, job.bands = &bands;                                            \
      return run<S, true>(job, threads);                                                                               \
    });                                                                                                                \
  }

// What processor and system can run: 2 of kernels compiled for AVX-512 (x86-64-v4), 1 of those for AVX2 and FMA (-v3), 0
// of neither. Asked of the one for any processor.
extern "C" int lomix_level() {
#if defined(__x86_64__)
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & 0x18001000) != 0x18001000) return 0;  // FMA, OSXSAVE, AVX
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 5 & 1)) return 0;
  return (low & 0xe6) == 0xe6 && (b & 0xd0030000) == 0xd0030000 ? 2 : 1;  // F, DQ, CD, BW, VL
#else
  return 0;
#endif
}

LOMIX_EXPORT(float, f32)
LOMIX_EXPORT(double, f64)
