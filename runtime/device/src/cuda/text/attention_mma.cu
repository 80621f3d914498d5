// Attention on 16-bit tensor cores (mma.sync m16n8k16, sm_80 and later), sums in f32 (after Dao 2023, "FlashAttention-2"; the gradients of
// queries and of keys are made by two kernels, so that nothing is added by atomics). A warp has 16 rows of a tile: of queries forward and for
// their gradient, of keys for theirs. Products are chained in registers: the accumulator of one is the first factor of the next. M blocks of 16 rows per warp read the other factor's tile
// once, which shared memory limits.
// In a warp, thread 4 g + t has rows g and g + 8, and columns 8 n + 2 t and the next, of each accumulator.

// Elements from one row of a tile in shared memory to the next: an odd number of 16-byte chunks, so that eight rows lie in different banks.
template <int COLS> constexpr int line() { return COLS % 16 == 0 ? COLS + 8 : COLS; }

FN u32 in_shared(const void* p) { return (u32)__cvta_generic_to_shared(p); }
FN void matrices(u32 (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(in_shared(p)));
}
FN void turned_matrices(u32 (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(in_shared(p)));
}
FN void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, bf16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
FN void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, f16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
FN u32 pair(float low, float high, bf16) { u32 r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r; }
FN u32 pair(float low, float high, f16) { u32 r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low)); return r; }
FN float power_of_two(float x) { float r; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }

// Copies that go on while others compute.
FN void copy16(void* to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(in_shared(to)), "l"(from), "r"(inside ? 16 : 0));
}
FN void copy4(void* to, const void* from, bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(in_shared(to)), "l"(from), "r"(inside ? 4 : 0));
}
FN void copies_end() { asm volatile("cp.async.commit_group;"); }
template <int LEFT> FN void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT)); }

// Rows first.. of a tile, zero from `end` on; `at(row)` is the address of a row's first element.
template <int ROWS, int COLS, class E, class F> FN void copy_rows(E* to, int first, int end, F at) {
  constexpr int chunks = COLS / 8;
  for (int e = threadIdx.x; e < ROWS * chunks; e += blockDim.x) {
    const int row = e / chunks, c = e % chunks;
    const bool inside = first + row < end;
    copy16(to + row * line<COLS>() + c * 8, at(inside ? first + row : 0) + c * 8, inside);
  }
}

// The first factor of products: 16 rows of a tile in shared memory.
template <int COLS, class E> FN void factor(u32 (&a)[COLS / 16][4], const E* rows) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < COLS / 16; k++) matrices(a[k], rows + lane % 16 * line<COLS>() + k * 16 + lane / 16 * 8);
}

// c[m] += a[m] bᵀ for M blocks of 16 rows: N rows of b in shared memory, COLS long. `first(k, m, a)` gives a step of a first factor.
template <int M, int N, int COLS, class E, class F> FN void by_rows(float (&c)[M][N / 8][4], F first, const E* b) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < COLS / 16; k++) {
    u32 f[M][4];
#pragma unroll
    for (int m = 0; m < M; m++) first(k, m, f[m]);
#pragma unroll
    for (int n = 0; n < N / 16; n++) {
      u32 r[4];
      matrices(r, b + (n * 16 + lane % 8 + lane / 16 * 8) * line<COLS>() + k * 16 + lane / 8 % 2 * 8);
#pragma unroll
      for (int m = 0; m < M; m++) {
        multiply(c[m][2 * n], f[m], r[0], r[1], E());
        multiply(c[m][2 * n + 1], f[m], r[2], r[3], E());
      }
    }
  }
}

// The same with the first factor's rows in shared memory.
template <int M, int N, int COLS, class E> FN void tiles_by_rows(float (&c)[M][N / 8][4], const E* a, const E* b) {
  const int lane = threadIdx.x % 32;
  by_rows<M, N, COLS>(c, [&](int k, int m, u32 (&f)[4]) { matrices(f, a + (m * 16 + lane % 16) * line<COLS>() + k * 16 + lane / 16 * 8); }, b);
}

// c[m] += p[m] b: K rows of b in shared memory, COLS long; p is an accumulator of K columns, rounded.
template <int M, int K, int COLS, class E> FN void by_cols(float (&c)[M][COLS / 8][4], const float (&p)[M][K / 8][4], const E* b) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < K / 16; k++) {
    u32 a[M][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
      a[m][0] = pair(p[m][2 * k][0], p[m][2 * k][1], E());
      a[m][1] = pair(p[m][2 * k][2], p[m][2 * k][3], E());
      a[m][2] = pair(p[m][2 * k + 1][0], p[m][2 * k + 1][1], E());
      a[m][3] = pair(p[m][2 * k + 1][2], p[m][2 * k + 1][3], E());
    }
#pragma unroll
    for (int n = 0; n < COLS / 16; n++) {
      u32 r[4];
      turned_matrices(r, b + (k * 16 + lane % 16) * line<COLS>() + n * 16 + lane / 16 * 8);
#pragma unroll
      for (int m = 0; m < M; m++) {
        multiply(c[m][2 * n], a[m], r[0], r[1], E());
        multiply(c[m][2 * n + 1], a[m], r[2], r[3], E());
      }
    }
  }
}

// Whether a tile is looked at score by score.
struct Masked { static constexpr bool MASKED = true; };
struct Whole { static constexpr bool MASKED = false; };

// A score in units of the binary logarithm, less `shift` of the same. Where nothing bends the scores it is one multiplication and addition.
template <class A> FN float binary_score(const A& a, float s, float shift, int b, int i, int j) {
  if constexpr (A::PLAIN) return fmaf(s, A::SCALE() * LOG2E, -shift);
  else return a.score(s * A::SCALE(), b, i, j) * LOG2E - shift;
}

// The four threads that have a row together.
FN float quad_sum(float v) { v += __shfl_xor_sync(0xffffffffu, v, 1); return v + __shfl_xor_sync(0xffffffffu, v, 2); }
FN float quad_max(float v) { v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1)); return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2)); }

// Writes 16 rows of an accumulator times a factor per row.
template <int COLS, class F> FN void put_rows(const float (&c)[COLS / 8][4], float low, float high, F put_two) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < COLS / 8; n++) {
    put_two(g, 8 * n + 2 * t, c[n][0] * low, c[n][1] * low);
    put_two(g + 8, 8 * n + 2 * t, c[n][2] * high, c[n][3] * high);
  }
}

template <class A, class E, int W, int M, int BK> FN void mma_forward(const A& a) {
  constexpr int R = 16 * M, BQ = R * W, D = A::D, DV = A::DV, LD = line<D>(), LV = line<DV>();
  extern __shared__ __align__(16) char raw[];
  E* qs = (E*)raw;
  E* ks = qs + BQ * LD;
  E* vs = ks + 2 * BK * LD;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  constexpr int tiles = (A::NQ + BQ - 1) / BQ;
  const int b = blockIdx.x % A::NB, i0 = (tiles - 1 - (int)(blockIdx.x / A::NB)) * BQ;
  int lo, hi;
  live_keys(a, b, i0, BQ, lo, hi);
  lo = lo / BK * BK;
  auto fetch = [&](int j0, int stage) {
    copy_rows<BK, D>(ks + stage * BK * LD, j0, A::NK, [&](int j) { return a.o1 + A::at_k(b, j, 0); });
    copy_rows<BK, DV>(vs + stage * BK * LV, j0, A::NK, [&](int j) { return a.o2 + A::at_v(b, j, 0); });
  };
  const int i1 = min(i0 + BQ, A::NQ) - 1;
  auto next = [&](int j0) {
    while (j0 < hi && a.classify(b, i0, i1, j0, min(j0 + BK, A::NK) - 1) == 0) j0 += BK;
    return j0;
  };
  copy_rows<BQ, D>(qs, i0, A::NQ, [&](int i) { return a.o0 + A::at_q(b, i, 0); });
  copies_end();
  int j0 = next(lo), stage = 0;
  if (j0 < hi) fetch(j0, 0);
  copies_end();
  copies_wait<1>();
  __syncthreads();
  u32 q[M][D / 16][4];
#pragma unroll
  for (int m = 0; m < M; m++) factor<D>(q[m], qs + (warp * R + m * 16) * LD);
  float out[M][DV / 8][4] = {}, top[M][2], sum[M][2] = {};
#pragma unroll
  for (int m = 0; m < M; m++) top[m][0] = top[m][1] = -INF;
  // Maxima are those of the products where nothing bends them, else of the scores in binary units.
  constexpr bool plain = A::PLAIN;
  const float unit = plain ? A::SCALE() * LOG2E : 1.0f;
  float s[M][BK / 8][4];
  auto soften = [&](auto kind) {
#pragma unroll
    for (int m = 0; m < M; m++) {
      const int first = i0 + warp * R + m * 16 + g;
      float now[2] = {top[m][0], top[m][1]};
#pragma unroll
      for (int n = 0; n < BK / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int i = first + e / 2 * 8, j = j0 + n * 8 + t * 2 + e % 2;
          const float x = s[m][n][e] * A::SCALE();
          if constexpr (!plain) s[m][n][e] = a.score(x, b, i, j) * LOG2E;
          if constexpr (decltype(kind)::MASKED) s[m][n][e] = i < A::NQ && j < A::NK && a.seen(x, b, i, j) ? s[m][n][e] : -INF;
          now[e / 2] = fmaxf(now[e / 2], s[m][n][e]);
        }
#pragma unroll
      for (int r = 0; r < 2; r++) {
        now[r] = quad_max(now[r]);
        const float shift = now[r] == -INF ? 0.0f : now[r] * unit, keep = power_of_two(top[m][r] * unit - shift);
        float add = 0.0f;
#pragma unroll
        for (int n = 0; n < BK / 8; n++)
#pragma unroll
          for (int e = 2 * r; e < 2 * r + 2; e++) {
            s[m][n][e] = power_of_two(plain ? fmaf(s[m][n][e], unit, -shift) : s[m][n][e] - shift);
            add += s[m][n][e];
          }
        sum[m][r] = sum[m][r] * keep + add;
        top[m][r] = now[r];
#pragma unroll
        for (int n = 0; n < DV / 8; n++) { out[m][n][2 * r] *= keep; out[m][n][2 * r + 1] *= keep; }
      }
    }
  };
  while (j0 < hi) {
    const int after = next(j0 + BK);
    if (after < hi) fetch(after, stage ^ 1);
    copies_end();
    copies_wait<1>();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int n = 0; n < BK / 8; n++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
    by_rows<M, BK, D>(s, [&](int k, int m, u32 (&f)[4]) { f[0] = q[m][k][0]; f[1] = q[m][k][1]; f[2] = q[m][k][2]; f[3] = q[m][k][3]; }, ks + stage * BK * LD);
    if (i0 + BQ <= A::NQ && j0 + BK <= A::NK && a.classify(b, i0, i0 + BQ - 1, j0, j0 + BK - 1) == 2) soften(Whole());
    else soften(Masked());
    by_cols<M, BK, DV>(out, s, vs + stage * BK * LV);
    __syncthreads();
    j0 = after;
    stage ^= 1;
  }
  copies_wait<0>();
#pragma unroll
  for (int m = 0; m < M; m++) {
    float by[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float all = quad_sum(sum[m][r]);
      by[r] = all == 0.0f ? 0.0f : 1.0f / all;
      const int i = i0 + warp * R + m * 16 + g + 8 * r;
      if (t == 0 && i < A::NQ) a.put_lse(b, i, all == 0.0f ? -INF : top[m][r] * unit / LOG2E + logf(all));
    }
    put_rows<DV>(out[m], by[0], by[1], [&](int row, int w, float x, float y) {
      const int i = i0 + warp * R + m * 16 + row;
      if (i < A::NQ) { a.put_out(b, i, w, x); a.put_out(b, i, w + 1, y); }
    });
  }
}

// `dots` and, behind them, the logarithms come from row_dots.
template <class A, class E, int W, int M, int BK> FN void mma_grad_queries(const A& a, const float* dots) {
  constexpr int R = 16 * M, BQ = R * W, D = A::D, DV = A::DV, LD = line<D>(), LV = line<DV>();
  const float* logs = dots + A::NB * A::NQ;
  extern __shared__ __align__(16) char raw[];
  E* qs = (E*)raw;
  E* gs = qs + BQ * LD;
  E* ks = gs + BQ * LV;
  E* vs = ks + 2 * BK * LD;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  constexpr int tiles = (A::NQ + BQ - 1) / BQ, groups = A::NB / A::Q_SHARED;
  const int group = blockIdx.x % groups, i0 = (tiles - 1 - (int)(blockIdx.x / groups)) * BQ;
  const int i1 = min(i0 + BQ, A::NQ) - 1;
  float acc[M][D / 8][4] = {};
  for (int u = 0; u < A::Q_SHARED; u++) {
    const int b = A::q_problem(group, u);
    int lo, hi;
    live_keys(a, b, i0, BQ, lo, hi);
    lo = lo / BK * BK;
    auto fetch = [&](int j0, int stage) {
      copy_rows<BK, D>(ks + stage * BK * LD, j0, A::NK, [&](int j) { return a.o1 + A::at_k(b, j, 0); });
      copy_rows<BK, DV>(vs + stage * BK * LV, j0, A::NK, [&](int j) { return a.o2 + A::at_v(b, j, 0); });
    };
    auto next = [&](int j0) {
      while (j0 < hi && a.classify(b, i0, i1, j0, min(j0 + BK, A::NK) - 1) == 0) j0 += BK;
      return j0;
    };
    copy_rows<BQ, D>(qs, i0, A::NQ, [&](int i) { return a.o0 + A::at_q(b, i, 0); });
    copy_rows<BQ, DV>(gs, i0, A::NQ, [&](int i) { return a.dout_row(b, i); });
    int j0 = next(lo), stage = 0;
    if (j0 < hi) fetch(j0, 0);
    copies_end();
    float log_sum[M][2], dot[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int i = i0 + warp * R + m * 16 + g + 8 * r;
        log_sum[m][r] = i < A::NQ ? logs[b * A::NQ + i] : -INF;
        dot[m][r] = i < A::NQ ? dots[b * A::NQ + i] : 0.0f;
      }
    float s[M][BK / 8][4], d[M][BK / 8][4];
    auto soften = [&](auto kind) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < BK / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int i = i0 + warp * R + m * 16 + g + e / 2 * 8, j = j0 + n * 8 + t * 2 + e % 2;
            const float x = s[m][n][e] * A::SCALE(), l = log_sum[m][e / 2];
            const float p = power_of_two(binary_score(a, s[m][n][e], l, b, i, j));
            d[m][n][e] = p * (d[m][n][e] - dot[m][e / 2]);
            if constexpr (!A::PLAIN) d[m][n][e] *= a.slope(x, b, i, j);
            if constexpr (decltype(kind)::MASKED)
              d[m][n][e] = l != -INF && i < A::NQ && j < A::NK && a.seen(x, b, i, j) ? d[m][n][e] : 0.0f;
          }
    };
    while (j0 < hi) {
      const int after = next(j0 + BK);
      if (after < hi) fetch(after, stage ^ 1);
      copies_end();
      copies_wait<1>();
      __syncthreads();
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < BK / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) s[m][n][e] = d[m][n][e] = 0.0f;
      tiles_by_rows<M, BK, D>(s, qs + warp * R * LD, ks + stage * BK * LD);
      tiles_by_rows<M, BK, DV>(d, gs + warp * R * LV, vs + stage * BK * LV);
      if (i0 + BQ <= A::NQ && j0 + BK <= A::NK && a.classify(b, i0, i0 + BQ - 1, j0, j0 + BK - 1) == 2) soften(Whole());
      else soften(Masked());
      by_cols<M, BK, D>(acc, d, ks + stage * BK * LD);
      __syncthreads();
      j0 = after;
      stage ^= 1;
    }
    copies_wait<0>();
    __syncthreads();
  }
  const int b = A::q_problem(group, 0);
#pragma unroll
  for (int m = 0; m < M; m++)
    put_rows<D>(acc[m], A::SCALE(), A::SCALE(), [&](int row, int d, float x, float y) {
      const int i = i0 + warp * R + m * 16 + row;
      if (i < A::NQ) { a.put_dq(b, i, d, x); a.put_dq(b, i, d + 1, y); }
    });
}

// Keys are the rows here: sᵀ = k qᵀ and (dout v)ᵀ = v doutᵀ, so that both can be first factors.
template <class A, class S, class E, int W, int M, int BQ, bool KEYS, bool VALUES> FN void mma_grad_keys(const A& a, const float* dots) {
  constexpr int R = 16 * M, BK = R * W, D = A::D, DV = A::DV, LD = line<D>(), LV = line<DV>();
  const float* logs = dots + A::NB * A::NQ;
  extern __shared__ __align__(16) char raw[];
  E* ks = (E*)raw;
  E* vs = ks + BK * LD;
  E* qs = vs + BK * LV;
  E* gs = qs + 2 * BQ * LD;
  float* ls = (float*)(gs + 2 * BQ * LV);
  float* ds = ls + 2 * BQ;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  constexpr int groups = A::NB / S::SHARED;
  const int group = blockIdx.x % groups, j0 = (int)(blockIdx.x / groups) * BK;
  const int j1 = min(j0 + BK, A::NK) - 1;
  float acc_k[M][D / 8][4] = {}, acc_v[M][DV / 8][4] = {};
  for (int u = 0; u < S::SHARED; u++) {
    const int b = S::problem(group, u);
    auto fetch = [&](int i0, int stage) {
      copy_rows<BQ, D>(qs + stage * BQ * LD, i0, A::NQ, [&](int i) { return a.o0 + A::at_q(b, i, 0); });
      copy_rows<BQ, DV>(gs + stage * BQ * LV, i0, A::NQ, [&](int i) { return a.dout_row(b, i); });
      for (int r = threadIdx.x; r < BQ; r += blockDim.x) {
        const bool inside = i0 + r < A::NQ;
        const int at = b * A::NQ + (inside ? i0 + r : 0);
        copy4(ls + stage * BQ + r, logs + at, inside);
        copy4(ds + stage * BQ + r, dots + at, inside);
      }
    };
    auto next = [&](int i0) {
      while (i0 < A::NQ && a.classify(b, i0, min(i0 + BQ, A::NQ) - 1, j0, j1) == 0) i0 += BQ;
      return i0;
    };
    copy_rows<BK, D>(ks, j0, A::NK, [&](int j) { return a.o1 + A::at_k(b, j, 0); });
    copy_rows<BK, DV>(vs, j0, A::NK, [&](int j) { return a.o2 + A::at_v(b, j, 0); });
    int i0 = next(0), stage = 0;
    if (i0 < A::NQ) fetch(i0, 0);
    copies_end();
    float s[M][BQ / 8][4], d[M][BQ / 8][4];
    auto soften = [&](auto kind) {
#pragma unroll
      for (int n = 0; n < BQ / 8; n++)
#pragma unroll
        for (int side = 0; side < 2; side++) {
          const int r = n * 8 + t * 2 + side, i = i0 + r;
          const float l = ls[stage * BQ + r], dot = ds[stage * BQ + r];
#pragma unroll
          for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
              const int e = 2 * half + side, j = j0 + warp * R + m * 16 + g + half * 8;
              const float x = s[m][n][e] * A::SCALE();
              float p = power_of_two(binary_score(a, s[m][n][e], l, b, i, j));
              d[m][n][e] = p * (d[m][n][e] - dot);
              if constexpr (!A::PLAIN) d[m][n][e] *= a.slope(x, b, i, j);
              if constexpr (decltype(kind)::MASKED) {
                const bool live = l != -INF && i < A::NQ && j < A::NK && a.seen(x, b, i, j);
                p = live ? p : 0.0f;
                d[m][n][e] = live ? d[m][n][e] : 0.0f;
              }
              s[m][n][e] = p;
            }
        }
    };
    while (i0 < A::NQ) {
      const int after = next(i0 + BQ);
      if (after < A::NQ) fetch(after, stage ^ 1);
      copies_end();
      copies_wait<1>();
      __syncthreads();
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < BQ / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) s[m][n][e] = d[m][n][e] = 0.0f;
      tiles_by_rows<M, BQ, D>(s, ks + warp * R * LD, qs + stage * BQ * LD);
      tiles_by_rows<M, BQ, DV>(d, vs + warp * R * LV, gs + stage * BQ * LV);
      if (i0 + BQ <= A::NQ && j0 + BK <= A::NK && a.classify(b, i0, i0 + BQ - 1, j0, j0 + BK - 1) == 2) soften(Whole());
      else soften(Masked());
      if constexpr (VALUES) by_cols<M, BQ, DV>(acc_v, s, gs + stage * BQ * LV);
      if constexpr (KEYS) by_cols<M, BQ, D>(acc_k, d, qs + stage * BQ * LD);
      __syncthreads();
      i0 = after;
      stage ^= 1;
    }
    copies_wait<0>();
    __syncthreads();
  }
  const int b = S::problem(group, 0);
#pragma unroll
  for (int m = 0; m < M; m++) {
    if constexpr (KEYS)
      put_rows<D>(acc_k[m], A::SCALE(), A::SCALE(), [&](int row, int d, float x, float y) {
        const int j = j0 + warp * R + m * 16 + row;
        if (j < A::NK) { a.put_dk(b, j, d, x); a.put_dk(b, j, d + 1, y); }
      });
    if constexpr (VALUES)
      put_rows<DV>(acc_v[m], 1.0f, 1.0f, [&](int row, int w, float x, float y) {
        const int j = j0 + warp * R + m * 16 + row;
        if (j < A::NK) { a.put_dv(b, j, w, x); a.put_dv(b, j, w + 1, y); }
      });
  }
}
