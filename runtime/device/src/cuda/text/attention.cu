// Attention in f32 on tiles of BQ queries and BK keys, 256 threads as 16 x 16 (after Dao et al. 2022, "FlashAttention", algorithms 1 and 4).
// `A` is written for each kernel: sizes NB problems, NQ queries, NK keys, D, DV; elements q(b, i, d), k(b, j, d), v(b, j, w), ..; the score and
// whether a key is seen; the keys that a query can see at most. Thread (ty, tx) has rows ty + 16 r and columns tx + 16 c.

#define LOG2E 1.4426950408889634f

// The keys that any of the queries of a tile can see.
template <class A> FN void live_keys(const A& a, int b, int i0, int rows, int& lo, int& hi) {
  __shared__ int ends[2];
  __syncthreads();
  if (threadIdx.x == 0) { ends[0] = A::NK; ends[1] = 0; }
  __syncthreads();
  for (int r = threadIdx.x; r < rows && i0 + r < A::NQ; r += blockDim.x) {
    int first = 0, last = A::NK;
    a.bounds(b, i0 + r, first, last);
    if (first < last) { atomicMin(&ends[0], first); atomicMax(&ends[1], last); }
  }
  __syncthreads();
  lo = ends[0]; hi = ends[1];
}

// Sums or maxima of the 16 threads with the same ty.
FN float of_row_sum(float v) {
#pragma unroll
  for (int by = 8; by > 0; by /= 2) v += __shfl_xor_sync(0xffffffffu, v, by);
  return v;
}
FN float of_row_max(float v) {
#pragma unroll
  for (int by = 8; by > 0; by /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, by));
  return v;
}

// Rows of a tile into shared memory, zero outside; `element(row, column)` reads.
template <int ROWS, int COLS, int LINE, class F> FN void fill(float* to, F element) {
  for (int e = threadIdx.x; e < ROWS * COLS; e += 256) {
    const int row = e / COLS, col = e % COLS;
    to[row * LINE + col] = element(row, col);
  }
}

// c[r][n] += Σ_d x[ty + 16 r][d] y[tx + 16 n][d]
template <int R, int N, int DEPTH, int LX, int LY> FN void rows_by_rows(float (&c)[R][N], const float* x, const float* y) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 4
  for (int d = 0; d < DEPTH; d++) {
    float u[R], w[N];
#pragma unroll
    for (int r = 0; r < R; r++) u[r] = x[(ty + 16 * r) * LX + d];
#pragma unroll
    for (int n = 0; n < N; n++) w[n] = y[(tx + 16 * n) * LY + d];
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
      for (int n = 0; n < N; n++) c[r][n] = fmaf(u[r], w[n], c[r][n]);
  }
}

// c[r][n] += Σ_d x[d or row][..] y[d][tx + 16 n]; ACROSS: x is read down its columns.
template <bool ACROSS, int R, int N, int DEPTH, int LX, int LY> FN void rows_by_cols(float (&c)[R][N], const float* x, const float* y) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 4
  for (int d = 0; d < DEPTH; d++) {
    float u[R], w[N];
#pragma unroll
    for (int r = 0; r < R; r++) u[r] = ACROSS ? x[d * LX + ty + 16 * r] : x[(ty + 16 * r) * LX + d];
#pragma unroll
    for (int n = 0; n < N; n++) w[n] = y[d * LY + tx + 16 * n];
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
      for (int n = 0; n < N; n++) c[r][n] = fmaf(u[r], w[n], c[r][n]);
  }
}

template <class A, int BQ, int BK> struct Tiles {
  static constexpr int R = BQ / 16, C = BK / 16, DC = (A::D + 15) / 16, VC = (A::DV + 15) / 16;
  static constexpr int LD = A::D + 1, LV = VC * 16 + 1, LP = BK + 1, LO = DC * 16 + 1;
};

template <class A, int BQ, int BK> FN void forward(const A& a) {
  typedef Tiles<A, BQ, BK> T;
  extern __shared__ float sh[];
  float* qs = sh;
  float* ks = qs + BQ * T::LD;
  float* vs = ks + BK * T::LD;
  float* ps = vs + BK * T::LV;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  constexpr int tiles = (A::NQ + BQ - 1) / BQ;
  // Late queries see most where a mask looks back: they begin first.
  const int b = blockIdx.x % A::NB, i0 = (tiles - 1 - (int)(blockIdx.x / A::NB)) * BQ;
  fill<BQ, A::D, T::LD>(qs, [&](int r, int d) { return i0 + r < A::NQ ? a.q(b, i0 + r, d) * A::SCALE() : 0.0f; });
  int lo, hi;
  live_keys(a, b, i0, BQ, lo, hi);
  float top[T::R], sum[T::R], acc[T::R][T::VC] = {};
#pragma unroll
  for (int r = 0; r < T::R; r++) { top[r] = -INF; sum[r] = 0.0f; }
  for (int j0 = lo / BK * BK; j0 < hi; j0 += BK) {
    __syncthreads();
    fill<BK, A::D, T::LD>(ks, [&](int r, int d) { return j0 + r < A::NK ? a.k(b, j0 + r, d) : 0.0f; });
    fill<BK, T::VC * 16, T::LV>(vs, [&](int r, int w) { return j0 + r < A::NK && w < A::DV ? a.v(b, j0 + r, w) : 0.0f; });
    __syncthreads();
    float s[T::R][T::C] = {};
    rows_by_rows<T::R, T::C, A::D, T::LD, T::LD>(s, qs, ks);
#pragma unroll
    for (int r = 0; r < T::R; r++) {
      const int i = i0 + ty + 16 * r;
      float high = -INF;
#pragma unroll
      for (int c = 0; c < T::C; c++) {
        const int j = j0 + tx + 16 * c;
        const bool live = i < A::NQ && j < A::NK && a.seen(s[r][c], b, i, j);
        s[r][c] = live ? a.score(s[r][c], b, i, j) : -INF;
        high = fmaxf(high, s[r][c]);
      }
      const float now = fmaxf(top[r], of_row_max(high)), shift = now == -INF ? 0.0f : now;
      const float keep = expf(top[r] - shift);
      float add = 0.0f;
#pragma unroll
      for (int c = 0; c < T::C; c++) {
        const float p = expf(s[r][c] - shift);
        add += p;
        ps[(ty + 16 * r) * T::LP + tx + 16 * c] = p;
      }
      sum[r] = sum[r] * keep + of_row_sum(add);
      top[r] = now;
#pragma unroll
      for (int c = 0; c < T::VC; c++) acc[r][c] *= keep;
    }
    __syncthreads();
    rows_by_cols<false, T::R, T::VC, BK, T::LP, T::LV>(acc, ps, vs);
  }
#pragma unroll
  for (int r = 0; r < T::R; r++) {
    const int i = i0 + ty + 16 * r;
    if (i >= A::NQ) continue;
    const float by = sum[r] == 0.0f ? 0.0f : 1.0f / sum[r];
#pragma unroll
    for (int c = 0; c < T::VC; c++)
      if (tx + 16 * c < A::DV) a.put_out(b, i, tx + 16 * c, acc[r][c] * by);
    if (tx == 0) a.put_lse(b, i, sum[r] == 0.0f ? -INF : top[r] + logf(sum[r]));
  }
}

// Per query Σ dout out, a warp each; behind them, the binary logarithm of the sum of exponentials.
template <class A> FN void row_dots(const A& a, float* dots) {
  const int n = blockIdx.x * 8 + threadIdx.x / 32;
  if (n >= A::NB * A::NQ) return;
  float sum = 0.0f;
  for (int w = threadIdx.x % 32; w < A::DV; w += 32) sum = fmaf(a.out(n / A::NQ, n % A::NQ, w), a.dout(n / A::NQ, n % A::NQ, w), sum);
  sum = together<32, Sum>(sum, (float*)nullptr);
  if (threadIdx.x % 32 == 0) { dots[n] = sum; dots[A::NB * A::NQ + n] = a.lse(n / A::NQ, n % A::NQ) * LOG2E; }
}

// Probabilities and gradients of the scores of one tile, from scaled products s and dout v.
template <class A, class T> FN void slopes(const A& a, int b, int i0, int j0, float (&s)[T::R][T::C], float (&d)[T::R][T::C], const float* dots) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int r = 0; r < T::R; r++) {
    const int i = i0 + ty + 16 * r;
    const bool row = i < A::NQ;
    const float log_sum = row ? a.lse(b, i) : -INF, dot = row ? dots[b * A::NQ + i] : 0.0f;
#pragma unroll
    for (int c = 0; c < T::C; c++) {
      const int j = j0 + tx + 16 * c;
      const bool live = row && j < A::NK && log_sum != -INF && a.seen(s[r][c], b, i, j);
      const float p = live ? expf(a.score(s[r][c], b, i, j) - log_sum) : 0.0f;
      d[r][c] = live ? p * (d[r][c] - dot) * a.slope(s[r][c], b, i, j) : 0.0f;
      s[r][c] = p;
    }
  }
}

// The gradient of the queries; several problems that share one are summed in order.
template <class A, int BQ, int BK> FN void grad_queries(const A& a, const float* dots) {
  typedef Tiles<A, BQ, BK> T;
  extern __shared__ float sh[];
  float* qs = sh;
  float* gs = qs + BQ * T::LD;
  float* ks = gs + BQ * T::LV;
  float* vs = ks + BK * T::LO;
  float* ds = vs + BK * T::LV;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  constexpr int tiles = (A::NQ + BQ - 1) / BQ, groups = A::NB / A::Q_SHARED;
  const int group = blockIdx.x % groups, i0 = (tiles - 1 - (int)(blockIdx.x / groups)) * BQ;
  float acc[T::R][T::DC] = {};
  for (int u = 0; u < A::Q_SHARED; u++) {
    const int b = A::q_problem(group, u);
    __syncthreads();
    fill<BQ, A::D, T::LD>(qs, [&](int r, int d) { return i0 + r < A::NQ ? a.q(b, i0 + r, d) * A::SCALE() : 0.0f; });
    fill<BQ, T::VC * 16, T::LV>(gs, [&](int r, int w) { return i0 + r < A::NQ && w < A::DV ? a.dout(b, i0 + r, w) : 0.0f; });
    int lo, hi;
    live_keys(a, b, i0, BQ, lo, hi);
    for (int j0 = lo / BK * BK; j0 < hi; j0 += BK) {
      __syncthreads();
      fill<BK, T::DC * 16, T::LO>(ks, [&](int r, int d) { return j0 + r < A::NK && d < A::D ? a.k(b, j0 + r, d) : 0.0f; });
      fill<BK, T::VC * 16, T::LV>(vs, [&](int r, int w) { return j0 + r < A::NK && w < A::DV ? a.v(b, j0 + r, w) : 0.0f; });
      __syncthreads();
      float s[T::R][T::C] = {}, d[T::R][T::C] = {};
      rows_by_rows<T::R, T::C, A::D, T::LD, T::LO>(s, qs, ks);
      rows_by_rows<T::R, T::C, A::DV, T::LV, T::LV>(d, gs, vs);
      slopes<A, T>(a, b, i0, j0, s, d, dots);
#pragma unroll
      for (int r = 0; r < T::R; r++)
#pragma unroll
        for (int c = 0; c < T::C; c++) ds[(ty + 16 * r) * T::LP + tx + 16 * c] = d[r][c];
      __syncthreads();
      rows_by_cols<false, T::R, T::DC, BK, T::LP, T::LO>(acc, ds, ks);
    }
  }
  const int b = A::q_problem(group, 0);
#pragma unroll
  for (int r = 0; r < T::R; r++)
#pragma unroll
    for (int c = 0; c < T::DC; c++) {
      const int i = i0 + ty + 16 * r, d = tx + 16 * c;
      if (i < A::NQ && d < A::D) a.put_dq(b, i, d, acc[r][c] * A::SCALE());
    }
}

// The gradients of keys and values, or of one of them. S says which problems share them.
template <class A, class S, int BQ, int BK, bool KEYS, bool VALUES> FN void grad_keys(const A& a, const float* dots) {
  // Rows of accumulators are keys here.
  typedef Tiles<A, BQ, BK> T;
  extern __shared__ float sh[];
  float* ks = sh;
  float* vs = ks + BK * T::LD;
  float* qs = vs + BK * T::LV;
  float* gs = qs + BQ * T::LO;
  float* ps = gs + BQ * T::LV;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  constexpr int groups = A::NB / S::SHARED;
  const int group = blockIdx.x % groups, j0 = (int)(blockIdx.x / groups) * BK;
  float acc_k[T::C][T::DC] = {}, acc_v[T::C][T::VC] = {};
  for (int u = 0; u < S::SHARED; u++) {
    const int b = S::problem(group, u);
    __syncthreads();
    fill<BK, A::D, T::LD>(ks, [&](int r, int d) { return j0 + r < A::NK ? a.k(b, j0 + r, d) : 0.0f; });
    fill<BK, T::VC * 16, T::LV>(vs, [&](int r, int w) { return j0 + r < A::NK && w < A::DV ? a.v(b, j0 + r, w) : 0.0f; });
    for (int i0 = 0; i0 < A::NQ; i0 += BQ) {
      int lo, hi;
      live_keys(a, b, i0, BQ, lo, hi);
      if (lo >= j0 + BK || hi <= j0) continue;
      fill<BQ, T::DC * 16, T::LO>(qs, [&](int r, int d) { return i0 + r < A::NQ && d < A::D ? a.q(b, i0 + r, d) * A::SCALE() : 0.0f; });
      fill<BQ, T::VC * 16, T::LV>(gs, [&](int r, int w) { return i0 + r < A::NQ && w < A::DV ? a.dout(b, i0 + r, w) : 0.0f; });
      __syncthreads();
      float s[T::R][T::C] = {}, d[T::R][T::C] = {};
      rows_by_rows<T::R, T::C, A::D, T::LO, T::LD>(s, qs, ks);
      rows_by_rows<T::R, T::C, A::DV, T::LV, T::LV>(d, gs, vs);
      slopes<A, T>(a, b, i0, j0, s, d, dots);
      if constexpr (VALUES) {
#pragma unroll
        for (int r = 0; r < T::R; r++)
#pragma unroll
          for (int c = 0; c < T::C; c++) ps[(ty + 16 * r) * T::LP + tx + 16 * c] = s[r][c];
        __syncthreads();
        rows_by_cols<true, T::C, T::VC, BQ, T::LP, T::LV>(acc_v, ps, gs);
        __syncthreads();
      }
      if constexpr (KEYS) {
#pragma unroll
        for (int r = 0; r < T::R; r++)
#pragma unroll
          for (int c = 0; c < T::C; c++) ps[(ty + 16 * r) * T::LP + tx + 16 * c] = d[r][c];
        __syncthreads();
        // The queries are scaled already.
        rows_by_cols<true, T::C, T::DC, BQ, T::LP, T::LO>(acc_k, ps, qs);
      }
      __syncthreads();
    }
  }
  const int b = S::problem(group, 0);
#pragma unroll
  for (int r = 0; r < T::C; r++) {
    const int j = j0 + ty + 16 * r;
    if (j >= A::NK) continue;
    if constexpr (KEYS)
#pragma unroll
      for (int c = 0; c < T::DC; c++)
        if (tx + 16 * c < A::D) a.put_dk(b, j, tx + 16 * c, acc_k[r][c]);
    if constexpr (VALUES)
#pragma unroll
      for (int c = 0; c < T::VC; c++)
        if (tx + 16 * c < A::DV) a.put_dv(b, j, tx + 16 * c, acc_v[r][c]);
  }
}

// The gradient of a captured tensor: a warp for each of its elements goes through all scores that read it. G says which.
template <class A, class G> FN void grad_captured(const A& a, const float* dots) {
  const u32 e = blockIdx.x * 8 + threadIdx.x / 32;
  if (e >= G::ELEMENTS) return;
  float sum = 0.0f;
  for (u32 u = threadIdx.x % 32; u < G::SHARED; u += 32) {
    int b, i, j;
    G::place(e, u, b, i, j);
    const float log_sum = a.lse(b, i);
    float s = 0.0f, d = 0.0f;
    for (int x = 0; x < A::D; x++) s = fmaf(a.q(b, i, x) * A::SCALE(), a.k(b, j, x), s);
    if (log_sum == -INF || !a.seen(s, b, i, j)) continue;
    for (int x = 0; x < A::DV; x++) d = fmaf(a.dout(b, i, x), a.v(b, j, x), d);
    sum += expf(a.score(s, b, i, j) - log_sum) * (d - dots[b * A::NQ + i]) * G::slope(a, s, b, i, j);
  }
  sum = together<32, Sum>(sum, (float*)nullptr);
  if (threadIdx.x % 32 == 0) { int b, i, j; G::place(e, 0, b, i, j); G::put_element(a, b, i, j, sum); }
}
