//! Reciprocal roots, half precision and integer remainders as CLIF, on single numbers and on lanes alike.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, types};

use super::Extern;
use super::lanes::{Kind, Ops, Val};

impl Ops<'_, '_> {
    /// 1 / sqrt(x).
    pub(super) fn rsqrt(&mut self, x: Val) -> Val {
        let (one, root) = (self.float(1.0), self.sqrt(x));
        self.div(one, root)
    }

    /// f32 bits to the nearest bfloat16, as the low 16 bits of an i32. NaN stays NaN.
    pub(super) fn to_bf16(&mut self, x: Val) -> Val {
        let bits = self.bits(x);
        let (one, bias) = (self.int(1), self.int(0x7fff));
        let last = self.shr(bits, 16);
        let last = self.band(last, one);
        let rounded = self.iadd(bits, bias);
        let rounded = self.iadd(rounded, last);
        let rounded = self.shr(rounded, 16);
        let nan = self.fcmp(FloatCC::Unordered, x, x);
        let quiet = self.int(0x7fc0);
        self.select(nan, quiet, rounded)
    }

    /// The low 16 bits as a bfloat16.
    pub(super) fn from_bf16(&mut self, x: Val) -> Val {
        let bits = self.shl(x, 16);
        self.from_bits(bits)
    }

    /// f32 to the nearest IEEE half, as the low 16 bits of an i32.
    pub(super) fn to_f16(&mut self, x: Val) -> Val {
        let bits = self.bits(x);
        let magnitude_mask = self.int(i32::MAX);
        let a = self.band(bits, magnitude_mask);
        let sign = self.shr(bits, 16);
        let sign_mask = self.int(0x8000);
        let sign = self.band(sign, sign_mask);
        // Normal: rebias the exponent (127 to 15) and round to even.
        let (one, rebias) = (self.int(1), self.int(0xc800_0fff_u32 as i32));
        let last = self.shr(a, 13);
        let last = self.band(last, one);
        let normal = self.iadd(a, rebias);
        let normal = self.iadd(normal, last);
        let normal = self.shr(normal, 13);
        // Denormal: adding one half makes the unit of the last place 2^-24.
        let half = self.float(0.5);
        let small = self.from_bits(a);
        let small = self.add(small, half);
        let (small, half_bits) = (self.bits(small), self.int(0.5f32.to_bits() as i32));
        let small = self.isub(small, half_bits);
        let least = self.int(0x3880_0000);
        let is_small = self.icmp(IntCC::SignedLessThan, a, least);
        let y = self.select(is_small, small, normal);
        let (most, infinity) = (self.int(0x4780_0000), self.int(0x7c00));
        let large = self.icmp(IntCC::SignedGreaterThanOrEqual, a, most);
        let y = self.select(large, infinity, y);
        let (end, quiet) = (self.int(0x7f80_0000), self.int(0x7e00));
        let nan = self.icmp(IntCC::SignedGreaterThan, a, end);
        let y = self.select(nan, quiet, y);
        self.bor(y, sign)
    }

    /// The low 16 bits as an IEEE half.
    pub(super) fn from_f16(&mut self, x: Val) -> Val {
        let (magnitude_mask, sign_mask) = (self.int(0x7fff), self.int(0x8000));
        let a = self.band(x, magnitude_mask);
        let sign = self.band(x, sign_mask);
        let sign = self.shl(sign, 16);
        let shifted = self.shl(a, 13);
        // The exponent is rebiased by a product, which also normalises denormals.
        let value = self.from_bits(shifted);
        let scale = self.float(f32::from_bits(0x7780_0000));
        let value = self.mul(value, scale);
        let value = self.bits(value);
        let (end, special) = (self.int(0x7c00), self.int(0x7f80_0000));
        let infinite = self.icmp(IntCC::SignedGreaterThanOrEqual, a, end);
        let high = self.bor(shifted, special);
        let value = self.select(infinite, high, value);
        let value = self.bor(value, sign);
        self.from_bits(value)
    }

    /// `a - b * floor(a / b)` on integers; 0 where b is 0.
    pub(super) fn int_mod(&mut self, a: Val, b: Val) -> Val {
        self.call2(Extern::Mod, a, b, Kind::I)
    }

    /// The four lanes' low 16 bits, packed into an i64.
    pub(super) fn pack16(&mut self, x: Val) -> cranelift_codegen::ir::Value {
        let packed = self.b.ins().unarrow(x.v, x.v);
        let flags = cranelift_codegen::ir::MemFlagsData::new()
            .with_endianness(cranelift_codegen::ir::Endianness::Little);
        let quads = self.b.ins().bitcast(types::I64X2, flags, packed);
        self.b.ins().extractlane(quads, 0)
    }
}
