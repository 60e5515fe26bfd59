/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen lanes on Google Highway, for the target that is being compiled: as many of its vectors as that takes.
 * See simd.h for what each operation must do.  C++, included by hwy.cc once per target inside that target's
 * namespace, and so without a guard and without includes of its own.
 *
 * Highway leaves some things to the target: which operand a minimum gives for a NaN, and whether a masked load may
 * touch what it masks out.  Here the first is a comparison and a choice, and short rows are copied.
 */

#undef ALWAYS_INLINE
#undef BLOCK
#undef FEW
#undef FEW_MAX
#undef TOGETHER
#undef LEADS
#undef PARTS
#undef EACH
#undef vi_left
#undef vi_right
#undef vi_right_signed
#undef vi_right_signed_words

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define PARTS (64 / HWY_MAX_BYTES)

#if PARTS == 1 /* 32 registers of 16 lanes */
#define BLOCK 8
#else /* the chains of more rows, in two or four registers each, would spill */
#define BLOCK 3
#endif
#define FEW 2 /* more would take long to compile for all targets, and a panel is nearly as fast */
#define FEW_MAX 2
#define TOGETHER 1
#define LEADS 0

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using DU = hn::RebindToUnsigned<D>;
using DI = hn::RebindToSigned<D>;
constexpr size_t part_lanes = hn::MaxLanes(D());
static_assert(PARTS * part_lanes == 16, "PARTS vectors hold sixteen lanes");

struct vf {
	hn::Vec<D> part[PARTS];
};
struct vi {
	hn::Vec<DU> part[PARTS];
};
struct vm {
	hn::Mask<D> part[PARTS];
};

#define EACH(i) HWY_UNROLL(4) for (size_t i = 0; i < PARTS; i++)

/* ---- memory ---- */

ALWAYS_INLINE vf vf_load(const float *p)
{
	vf v;

	EACH(i) v.part[i] = hn::Load(D(), p + i * part_lanes);
	return v;
}

ALWAYS_INLINE void vf_store(float *p, vf v)
{
	EACH(i) hn::Store(v.part[i], D(), p + i * part_lanes);
}

ALWAYS_INLINE vf vf_load_first(const float *p, size_t count)
{
	alignas(64) float copy[16] = {};
	vf v;

	if (count < 16) {
		memcpy(copy, p, count * sizeof *p);
		return vf_load(copy);
	}
	EACH(i) v.part[i] = hn::LoadU(D(), p + i * part_lanes);
	return v;
}

ALWAYS_INLINE void vf_store_first(float *p, size_t count, vf v)
{
	alignas(64) float copy[16];

	if (count < 16) {
		vf_store(copy, v);
		memcpy(p, copy, count * sizeof *p);
		return;
	}
	EACH(i) hn::StoreU(v.part[i], D(), p + i * part_lanes);
}

/* Bytes or words of any address, zero-extended. */
template <typename T> ALWAYS_INLINE vi vi_widen(const T *p, size_t count)
{
	const hn::Rebind<T, D> narrow;
	alignas(64) T copy[16] = {};
	vi v;

	if (count < 16) {
		memcpy(copy, p, count * sizeof *p);
		p = copy;
	}
	EACH(i) v.part[i] = hn::PromoteTo(DU(), hn::LoadU(narrow, p + i * part_lanes));
	return v;
}

ALWAYS_INLINE vi vi_load_bytes(const uint8_t *p, size_t count)
{
	return vi_widen(p, count);
}

/* ---- bits ---- */

ALWAYS_INLINE vi vi_set1(uint32_t x)
{
	vi v;

	EACH(i) v.part[i] = hn::Set(DU(), x);
	return v;
}

ALWAYS_INLINE vi vi_of(vf a)
{
	vi v;

	EACH(i) v.part[i] = hn::BitCast(DU(), a.part[i]);
	return v;
}

ALWAYS_INLINE vf vf_of(vi a)
{
	vf v;

	EACH(i) v.part[i] = hn::BitCast(D(), a.part[i]);
	return v;
}

ALWAYS_INLINE vi vi_int(vf a)
{
	vi v;

	/* ConvertTo truncates */
	EACH(i) v.part[i] = hn::BitCast(DU(), hn::ConvertTo(DI(), hn::Round(a.part[i])));
	return v;
}

ALWAYS_INLINE vi vi_add(vi a, vi b)
{
	EACH(i) a.part[i] = hn::Add(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vi vi_and(vi a, vi b)
{
	EACH(i) a.part[i] = hn::And(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vi vi_or(vi a, vi b)
{
	EACH(i) a.part[i] = hn::Or(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vi vi_xor(vi a, vi b)
{
	EACH(i) a.part[i] = hn::Xor(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vi vi_multiply(vi a, uint32_t b, vi *high)
{
	const hn::RepartitionToWide<DU> wide;
	const auto factor = hn::Set(DU(), b);
	vi low;

	EACH(i) {
		const auto even = hn::MulEven(a.part[i], factor);
		const auto odd_first = hn::BitCast(DU(), hn::ShiftRight<32>(hn::BitCast(wide, a.part[i])));
		const auto odd = hn::MulEven(odd_first, factor);
		high->part[i] = hn::OddEven(hn::BitCast(DU(), odd), hn::BitCast(DU(), hn::ShiftRight<32>(even)));
		low.part[i] = hn::OddEven(hn::BitCast(DU(), hn::ShiftLeft<32>(odd)), hn::BitCast(DU(), even));
	}
	return low;
}

ALWAYS_INLINE vi vi_max(vi a, vi b)
{
	EACH(i) a.part[i] = hn::Max(a.part[i], b.part[i]);
	return a;
}

template <int bits> ALWAYS_INLINE vi vi_left_by(vi a)
{
	EACH(i) a.part[i] = hn::ShiftLeft<bits>(a.part[i]);
	return a;
}

template <int bits> ALWAYS_INLINE vi vi_right_by(vi a)
{
	EACH(i) a.part[i] = hn::ShiftRight<bits>(a.part[i]);
	return a;
}

template <int bits> ALWAYS_INLINE vi vi_right_signed_by(vi a)
{
	EACH(i) a.part[i] = hn::BitCast(DU(), hn::ShiftRight<bits>(hn::BitCast(DI(), a.part[i])));
	return a;
}

ALWAYS_INLINE vi vi_max_bytes(vi a, vi b)
{
	using Bytes = hn::Repartition<uint8_t, DU>;

	EACH(i) a.part[i] = hn::BitCast(DU(), hn::Max(hn::BitCast(Bytes(), a.part[i]), hn::BitCast(Bytes(), b.part[i])));
	return a;
}

template <int bits> ALWAYS_INLINE vi vi_right_signed_words_by(vi a)
{
	using Words = hn::Repartition<int16_t, DU>;

	EACH(i) a.part[i] = hn::BitCast(DU(), hn::ShiftRight<bits>(hn::BitCast(Words(), a.part[i])));
	return a;
}

#define vi_left(a, bits) vi_left_by<bits>(a)
#define vi_right(a, bits) vi_right_by<bits>(a)
#define vi_right_signed(a, bits) vi_right_signed_by<bits>(a)
#define vi_right_signed_words(a, bits) vi_right_signed_words_by<bits>(a)

/* ---- arithmetic ---- */

ALWAYS_INLINE vf vf_set1(float x)
{
	vf v;

	EACH(i) v.part[i] = hn::Set(D(), x);
	return v;
}

ALWAYS_INLINE vf vf_add(vf a, vf b)
{
	EACH(i) a.part[i] = hn::Add(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
	EACH(i) a.part[i] = hn::Sub(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
	EACH(i) a.part[i] = hn::Mul(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_div(vf a, vf b)
{
	EACH(i) a.part[i] = hn::Div(a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
	EACH(i) a.part[i] = hn::MulAdd(a.part[i], b.part[i], c.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_fma_alternate(vf a, vf b, vf c)
{
	EACH(i) a.part[i] = hn::OddEven(hn::MulAdd(a.part[i], b.part[i], c.part[i]),
	                                hn::MulSub(a.part[i], b.part[i], c.part[i]));
	return a;
}

ALWAYS_INLINE vf vf_min(vf a, vf b)
{
	EACH(i) a.part[i] = hn::IfThenElse(hn::Lt(a.part[i], b.part[i]), a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_max(vf a, vf b)
{
	EACH(i) a.part[i] = hn::IfThenElse(hn::Lt(b.part[i], a.part[i]), a.part[i], b.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_rint(vf a)
{
	EACH(i) a.part[i] = hn::Round(a.part[i]);
	return a;
}

/* ---- choice ---- */

ALWAYS_INLINE vm vm_less(vf a, vf b)
{
	vm m;

	EACH(i) m.part[i] = hn::Lt(a.part[i], b.part[i]);
	return m;
}

ALWAYS_INLINE vm vm_unordered(vf a)
{
	vm m;

	EACH(i) m.part[i] = hn::IsNaN(a.part[i]);
	return m;
}

ALWAYS_INLINE vm vm_equal(vi a, vi b)
{
	vm m;

	EACH(i) m.part[i] = hn::RebindMask(D(), hn::Eq(a.part[i], b.part[i]));
	return m;
}

ALWAYS_INLINE vm vm_first(size_t count)
{
	vm m;

	EACH(i)
	{
		size_t before = i * part_lanes, left = count > before ? count - before : 0;
		m.part[i] = hn::FirstN(D(), left < part_lanes ? left : part_lanes);
	}
	return m;
}

ALWAYS_INLINE vf vf_choose(vm mask, vf yes, vf no)
{
	EACH(i) yes.part[i] = hn::IfThenElse(mask.part[i], yes.part[i], no.part[i]);
	return yes;
}

ALWAYS_INLINE vf vf_nan_where(vm mask, vf v)
{
	return vf_choose(mask, vf_set1(__builtin_nanf("")), v);
}

/* ---- BF16 and F16 ---- */

ALWAYS_INLINE vf vf_load_bf16(const uint16_t *p, size_t count)
{
	return vf_of(vi_left(vi_widen(p, count), 16));
}

/* F16 in the high halves of the lanes, zeros below, by arithmetic as in simd.h: not every target converts. */
ALWAYS_INLINE vf vf_decode_f16(vi top)
{
	vi field = vi_and(vi_right_signed(top, 3), vi_set1(0x8fffe000));
	vi five = vi_set1(0x7c000000);
	vm special = vm_equal(vi_and(top, five), five);

	return vf_choose(special, vf_of(vi_or(field, vi_set1(0x7f800000))), vf_mul(vf_of(field), vf_set1(0x1p112f)));
}

ALWAYS_INLINE vf vf_load_f16(const uint16_t *p, size_t count)
{
	return vf_decode_f16(vi_left(vi_widen(p, count), 16));
}

ALWAYS_INLINE void split_f16(vi pair, vf w[2])
{
	w[0] = vf_decode_f16(vi_left(pair, 16));
	w[1] = vf_decode_f16(vi_and(pair, vi_set1(0xffff0000)));
}

ALWAYS_INLINE void vf_store_high(uint16_t *p, size_t count, vf v)
{
	const hn::Rebind<uint16_t, D> narrow;
	alignas(64) uint16_t copy[16];
	uint16_t *to = count < 16 ? copy : p;

	EACH(i)
	{
		auto high = hn::BitCast(DI(), hn::ShiftRight<16>(hn::BitCast(DU(), v.part[i])));
		hn::StoreU(hn::DemoteTo(narrow, high), narrow, to + i * part_lanes);
	}
	if (count < 16)
		memcpy(p, copy, count * sizeof *p);
}

ALWAYS_INLINE void vi_store_bytes(uint8_t *p, size_t count, vi v)
{
	const hn::Rebind<uint8_t, D> narrow;
	alignas(64) uint8_t copy[16];
	uint8_t *to = count < 16 ? copy : p;

	EACH(i)
	hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(DI(), v.part[i])), narrow, to + i * part_lanes);
	if (count < 16)
		memcpy(p, copy, count);
}

/* ---- across lanes ---- */

ALWAYS_INLINE vf vf_even(vf a)
{
	EACH(i) a.part[i] = hn::DupEven(a.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_odd(vf a)
{
	EACH(i) a.part[i] = hn::DupOdd(a.part[i]);
	return a;
}

ALWAYS_INLINE vf vf_swap(vf a)
{
	EACH(i) a.part[i] = hn::Shuffle2301(a.part[i]);
	return a;
}

ALWAYS_INLINE float vf_fold(vf v)
{
	alignas(64) float lane[16];

	vf_store(lane, v);
	return octavo_lane_fold(lane);
}

/* ---- blocks of weights ---- */

/* Four dwords of each of lanes / 4 rows, the rows four apart in copy[16][64]: a row in each 16-byte block. */
template <class Tag> ALWAYS_INLINE hn::Vec<Tag> load_blocks(Tag tag, const uint8_t *p)
{
	if constexpr (hn::MaxLanes(tag) == 4) {
		return hn::Load(tag, (const uint32_t *)(const void *)p);
	} else {
		const hn::Half<Tag> half;
		return hn::Combine(tag, load_blocks(half, p + 16 * hn::MaxLanes(tag) * 2), load_blocks(half, p));
	}
}

/* Transposes 4 x 4 dwords in each 16-byte block. */
ALWAYS_INLINE void transpose_blocks(hn::Vec<DU> r[4])
{
	using Wide = hn::Repartition<uint64_t, DU>;
	const auto low01 = hn::BitCast(Wide(), hn::InterleaveLower(DU(), r[0], r[1]));
	const auto low23 = hn::BitCast(Wide(), hn::InterleaveLower(DU(), r[2], r[3]));
	const auto high01 = hn::BitCast(Wide(), hn::InterleaveUpper(DU(), r[0], r[1]));
	const auto high23 = hn::BitCast(Wide(), hn::InterleaveUpper(DU(), r[2], r[3]));

	r[0] = hn::BitCast(DU(), hn::InterleaveLower(Wide(), low01, low23));
	r[1] = hn::BitCast(DU(), hn::InterleaveUpper(Wide(), low01, low23));
	r[2] = hn::BitCast(DU(), hn::InterleaveLower(Wide(), high01, high23));
	r[3] = hn::BitCast(DU(), hn::InterleaveUpper(Wide(), high01, high23));
}

/* The rows are copied first: a cache line is read whole, and the blocks of a vector come from rows of their own. */
ALWAYS_INLINE void load_transposed(const uint8_t *const row[16], size_t offset, size_t bytes, vi d[16])
{
	alignas(64) uint8_t copy[16][64];

	if (bytes < 64)
		memset(copy, 0, sizeof copy);
	for (size_t n = 0; n < 16; n++)
		memcpy(copy[n], row[n] + offset, bytes < 64 ? bytes : 64);
	EACH(i)
		for (size_t q = 0; q < 4; q++) {
			hn::Vec<DU> r[4];
			for (size_t j = 0; j < 4; j++)
				r[j] = load_blocks(DU(), copy[i * part_lanes + j] + 16 * q);
			transpose_blocks(r);
			for (size_t j = 0; j < 4; j++)
				d[4 * q + j].part[i] = r[j];
		}
}
