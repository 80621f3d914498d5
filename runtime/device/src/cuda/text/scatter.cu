// A stable sort of (key, row) by eight bits at a time, then sums of equal keys in ascending order of rows: no atomic additions of
// floats, so the sums do not depend on who comes first. SHIFT: which bits; N numbers in blocks of 2048.
template <int N, int SHIFT> FN void count_digits(const u32* keys, u32* counts, int all) {
  __shared__ u32 here[256];
  here[threadIdx.x] = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const u32 at = blockIdx.x * 2048u + i * 256u + threadIdx.x;
    if (at < N) atomicAdd(&here[(keys[at] >> SHIFT) & 255u], 1u);
  }
  __syncthreads();
  counts[threadIdx.x * (u32)all + blockIdx.x] = here[threadIdx.x];
}

// Exclusive running sums of n counts, by one block of 1024.
FN void running_sums(u32* counts, u32 n) {
  __shared__ u32 sums[32];
  u32 before = 0;
  for (u32 first = 0; first < n; first += 1024) {
    const u32 at = first + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 own = at < n ? counts[at] : 0;
    u32 v = own;
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
      const u32 w = __shfl_up_sync(0xffffffffu, v, by);
      if (lane >= by) v += w;
    }
    if (lane == 31) sums[warp] = v;
    __syncthreads();
    u32 all = 0, mine = 0;
    for (u32 w = 0; w < 32; w++) { if (w == warp) mine = all; all += sums[w]; }
    if (at < n) counts[at] = before + mine + v - own;
    before += all;
    __syncthreads();
  }
}

template <int N, int SHIFT> FN void place_by_digit(const u32* keys, const u32* rows, u32* to_keys, u32* to_rows,
                                                   const u32* counts, int all) {
  __shared__ u32 next[256];
  __shared__ u32 by_warp[8][256];
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  next[threadIdx.x] = counts[threadIdx.x * (u32)all + blockIdx.x];
  for (int i = 0; i < 8; i++) {
#pragma unroll
    for (int w = 0; w < 8; w++) by_warp[w][threadIdx.x] = 0;
    __syncthreads();
    const u32 at = blockIdx.x * 2048u + i * 256u + threadIdx.x;
    const bool inside = at < N;
    const u32 key = inside ? keys[at] : 0, digit = inside ? (key >> SHIFT) & 255u : 256u;
    const u32 same = __match_any_sync(0xffffffffu, digit);
    const u32 rank = __popc(same & ((1u << lane) - 1u));
    if (inside && rank == 0) by_warp[warp][digit] = __popc(same);
    __syncthreads();
    // One thread per digit: where each warp begins.
    u32 from = next[threadIdx.x];
#pragma unroll
    for (int w = 0; w < 8; w++) { const u32 c = by_warp[w][threadIdx.x]; by_warp[w][threadIdx.x] = from; from += c; }
    next[threadIdx.x] = from;
    __syncthreads();
    if (inside) {
      const u32 to = by_warp[warp][digit] + rank;
      to_keys[to] = key;
      to_rows[to] = rows[at];
    }
    __syncthreads();
  }
}
