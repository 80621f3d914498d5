// What every kernel begins with: stored types, vector accesses, functions with the meaning of the scalar language. No header is included, so that
// NVRTC needs none. Written for sm_80 and later.
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
struct bf16 { unsigned short x; };
struct f16 { unsigned short x; };
typedef unsigned char truth;
#define INF __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define FN __device__ __forceinline__

FN float get(float v) { return v; }
FN float get(bf16 v) { return __uint_as_float((u32)v.x << 16); }
FN float get(f16 v) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.x)); return f; }
FN int get(int v) { return v; }
FN int get(truth v) { return v; }
FN void put(float& to, float v) { to = v; }
FN void put(bf16& to, float v) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.x) : "f"(v)); }
FN void put(f16& to, float v) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.x) : "f"(v)); }
FN void put(int& to, int v) { to = v; }
FN void put(truth& to, bool v) { to = v; }
FN float as_bf16(float v) { bf16 x; put(x, v); return get(x); }
FN float as_f16(float v) { f16 x; put(x, v); return get(x); }

// V neighbours, in accesses of up to 16 bytes.
template <int V, class T> FN void load(T* to, const T* from) {
  constexpr int bytes = V * (int)sizeof(T);
  if constexpr (bytes % 16 == 0) {
#pragma unroll
    for (int i = 0; i < bytes / 16; i++) ((uint4*)to)[i] = ((const uint4*)from)[i];
  } else if constexpr (bytes == 8) { *(uint2*)to = *(const uint2*)from; }
  else if constexpr (bytes == 4) { *(u32*)to = *(const u32*)from; }
  else if constexpr (bytes == 2) { *(unsigned short*)to = *(const unsigned short*)from; }
  else { *(unsigned char*)to = *(const unsigned char*)from; }
}
template <int V, class T> FN void store(T* to, const T* from) { load<V, T>(to, from); }

FN float least(float a, float b) { float r; asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
FN float most(float a, float b) { float r; asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
FN int least(int a, int b) { return a < b ? a : b; }
FN int most(int a, int b) { return a > b ? a : b; }
FN float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }
FN int sign(int x) { return (x > 0) - (x < 0); }
FN float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
FN float modulo(float a, float b) { return fmaf(-floorf(a / b), b, a); }
FN int modulo(int a, int b) {
  if (b == 0) return 0;
  i64 r = (i64)a % b;
  return (int)(r != 0 && (r < 0) != (b < 0) ? r + b : r);
}

struct Sum { template <class T> static FN T of(T a, T b) { return a + b; } };
struct Prod { template <class T> static FN T of(T a, T b) { return a * b; } };
struct Max { template <class T> static FN T of(T a, T b) { return most(a, b); } };
struct Min { template <class T> static FN T of(T a, T b) { return least(a, b); } };

// Of the T threads that do a row together; all get the result, which has the same bits in each.
template <int T, class Op, class X> FN X together(X v, X* shared) {
#pragma unroll
  for (int by = (T < 32 ? T : 32) / 2; by > 0; by /= 2) v = Op::of(v, __shfl_xor_sync(0xffffffffu, v, by));
  if constexpr (T > 32) {
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    v = shared[0];
#pragma unroll
    for (int i = 1; i < T / 32; i++) v = Op::of(v, shared[i]);
  }
  return v;
}

// Philox 4x32-10 (Salmon et al. 2011), keyed with the seed mixed with the stream (splitmix64's finaliser).
FN float draw(bool normal, u64 seed, u64 stream, u32 step, u32 c0, u32 c1, u32 c2) {
  u64 z = seed * 0x9E3779B97F4A7C15ull + stream;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  u32 k0 = (u32)z, k1 = (u32)(z >> 32), c3 = step;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    if (round > 0) { k0 += 0x9E3779B9u; k1 += 0xBB67AE85u; }
    const u64 a = (u64)c0 * 0xD2511F53u, b = (u64)c2 * 0xCD9E8D57u;
    const u32 x = (u32)(b >> 32) ^ c1 ^ k0, y = (u32)(a >> 32) ^ c3 ^ k1;
    c0 = x; c1 = (u32)b; c2 = y; c3 = (u32)a;
  }
  // 24 bits, as everywhere.
  const float u = (float)(c0 >> 8) * 0x1p-24f, v = (float)(c1 >> 8) * 0x1p-24f;
  if (!normal) return u;
  return sqrtf(-2.0f * logf(1.0f - u)) * cospif(2.0f * v);
}

// IEEE 754's totalOrder as an order of integers.
FN int ordered(float x) { const int b = __float_as_int(x); return b ^ ((b >> 31) & 0x7fffffff); }
