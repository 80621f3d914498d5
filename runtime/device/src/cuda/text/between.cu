// Intervals: what is known of a value over a tile. The mask of an attention is followed with these to see whether it is the same everywhere.
struct Between { float lo, hi; };
FN Between between(float lo, float hi) { return lo <= hi ? Between{lo, hi} : Between{-INF, INF}; }
FN bool surely(Between a) { return a.lo > 0.0f || a.hi < 0.0f; }
FN bool never(Between a) { return a.lo == 0.0f && a.hi == 0.0f; }
FN Between either(bool sure, bool possible) { return Between{sure ? 1.0f : 0.0f, possible ? 1.0f : 0.0f}; }
FN Between between_neg(Between a) { return Between{-a.hi, -a.lo}; }
FN Between between_add(Between a, Between b) { return between(a.lo + b.lo, a.hi + b.hi); }
FN Between between_sub(Between a, Between b) { return between(a.lo - b.hi, a.hi - b.lo); }
FN Between between_mul(Between a, Between b) {
  const float p = a.lo * b.lo, q = a.lo * b.hi, r = a.hi * b.lo, s = a.hi * b.hi;
  if (p != p || q != q || r != r || s != s) return Between{-INF, INF};
  return Between{fminf(fminf(p, q), fminf(r, s)), fmaxf(fmaxf(p, q), fmaxf(r, s))};
}
FN Between between_div(Between a, Between b) {
  if (!(b.lo > 0.0f || b.hi < 0.0f)) return Between{-INF, INF};
  return between_mul(a, Between{1.0f / b.hi, 1.0f / b.lo});
}
FN Between between_min(Between a, Between b) { return between(fminf(a.lo, b.lo), fminf(a.hi, b.hi)); }
FN Between between_max(Between a, Between b) { return between(fmaxf(a.lo, b.lo), fmaxf(a.hi, b.hi)); }
FN Between between_abs(Between a) {
  if (a.lo >= 0.0f) return a;
  return a.hi <= 0.0f ? between_neg(a) : Between{0.0f, fmaxf(-a.lo, a.hi)};
}
FN Between between_lt(Between a, Between b) { return either(a.hi < b.lo, a.lo < b.hi); }
FN Between between_le(Between a, Between b) { return either(a.hi <= b.lo, a.lo <= b.hi); }
FN Between between_eq(Between a, Between b) { return either(a.lo == a.hi && b.lo == b.hi && a.lo == b.lo, a.lo <= b.hi && b.lo <= a.hi); }
FN Between between_not(Between a) { return either(never(a), !surely(a)); }
FN Between between_ne(Between a, Between b) { return between_not(between_eq(a, b)); }
FN Between between_and(Between a, Between b) { return either(surely(a) && surely(b), !never(a) && !never(b)); }
FN Between between_or(Between a, Between b) { return either(surely(a) || surely(b), !never(a) || !never(b)); }
FN Between between_select(Between c, Between a, Between b) {
  if (surely(c)) return a;
  return never(c) ? b : Between{fminf(a.lo, b.lo), fmaxf(a.hi, b.hi)};
}
