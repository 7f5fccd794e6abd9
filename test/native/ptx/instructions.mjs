// What each PTX instruction computes, as C++: one table. An instruction that no row matches, modifiers included, is
// refused. The functions are those of numbers.h and warp.h.
//
// Patterns: `<t:a|b>` is one of these and is named t, `[.x]` may be absent; the names in CLASSES stand for lists.
// Operands: `=t` is written, as type t; `wide:t` is twice as wide, `bits:t` the same without a sign. What `=t|u` takes
// is a pair. In the C++, $a is the first operand that is read, $b the second; $T is the type named t, and $f what f is
// in the opcode.

/** @typedef {{ pattern: RegExp, operands: string[], code: string }} Row */

/** @type {Readonly<Record<string, string>>} */
const CLASSES = {
  integer: 's16|u16|s32|u32|s64|u64',
  narrow: 's16|u16|s32|u32',
  anyInteger: 's8|u8|s16|u16|s32|u32|s64|u64',
  bits: 'b16|b32|b64',
  float: 'f32|f64',
  half: 'f16|bf16',
  pair: 'f16x2|bf16x2',
  scope: 'cta|cluster|gpu|sys',
  order: 'relaxed|acquire|release|acq_rel',
};

/** @type {Readonly<Record<string, string>>} */
const LOGIC = { and: '&', or: '|', xor: '^' };

/** With NaN all but those with a u, and nan, are false. @type {Readonly<Record<string, string>>} */
const COMPARISONS = {
  eq: '$a == $b',
  ne: '$a < $b || $a > $b',
  lt: '$a < $b',
  le: '$a <= $b',
  gt: '$a > $b',
  ge: '$a >= $b',
  lo: '$a < $b',
  ls: '$a <= $b',
  hi: '$a > $b',
  hs: '$a >= $b',
  equ: '!($a < $b || $a > $b)',
  neu: '!($a == $b)',
  ltu: '!($a >= $b)',
  leu: '!($a > $b)',
  gtu: '!($a <= $b)',
  geu: '!($a < $b)',
  num: 'is_number($a) && is_number($b)',
  nan: 'is_notanumber($a) || is_notanumber($b)',
};

/** @param {string} pattern */
export function patternOf(pattern) {
  const source = pattern
    .replaceAll('.', '\\.')
    .replaceAll('[', '(?:')
    .replaceAll(']', ')?')
    .replace(/<(\w+):([^>]*)>/g, (_, name, list) => {
      const choices = list.split('|').map((/** @type {string} */ one) => CLASSES[one] ?? one);
      return `(?<${name}>${choices.join('|')})`;
    });
  return new RegExp(`^${source}$`);
}

/** @param {string} pattern @param {string} operands @param {string} code @returns {Row} */
const row = (pattern, operands, code) => ({ pattern: patternOf(pattern), operands: operands.split(' '), code });

/** @type {readonly Row[]} */
const ARITHMETIC = [
  row('add.<t:integer>', '=bits:t bits:t bits:t', '$a + $b'),
  row('sub.<t:integer>', '=bits:t bits:t bits:t', '$a - $b'),
  row('mul.lo.<t:integer>', '=bits:t bits:t bits:t', '1u * $a * $b'),
  row('mul.hi.<t:integer>', '=t t t', 'multiply_high($a, $b)'),
  row('mul.wide.<t:narrow>', '=wide:t t t', 'multiply_wide($a, $b)'),
  row('mad.lo.<t:integer>', '=bits:t bits:t bits:t bits:t', '1u * $a * $b + $c'),
  row('mad.hi.<t:integer>', '=bits:t t t bits:t', 'static_cast<Unsigned<$T>>(multiply_high($a, $b)) + $c'),
  row('mad.wide.<t:narrow>', '=wide:t t t wide:t', 'add(multiply_wide($a, $b), $c)'),
  row('div.<t:integer>', '=t t t', '$a / $b'),
  row('rem.<t:integer>', '=t t t', '$a % $b'),
  row('neg.<t:s16|s32|s64>', '=bits:t bits:t', '0u - $a'),
  row('abs.<t:s16|s32|s64>', '=bits:t t', 'magnitude($a)'),
  row('<f:min|max>.<t:integer>', '=t t t', '$f($a, $b)'),

  row('add[.rn][.<ftz:ftz>].<t:float>', '=t t t', '$a + $b'),
  row('sub[.rn][.<ftz:ftz>].<t:float>', '=t t t', '$a - $b'),
  row('mul[.rn][.<ftz:ftz>].<t:float>', '=t t t', '$a * $b'),
  row('div.rn[.<ftz:ftz>].<t:float>', '=t t t', '$a / $b'),
  row('fma.rn[.<ftz:ftz>].<t:float>', '=t t t t', 'std::fma($a, $b, $c)'),
  row('rcp.rn[.<ftz:ftz>].<t:float>', '=t t', '1 / $a'),
  row('sqrt.rn[.<ftz:ftz>].<t:float>', '=t t', 'std::sqrt($a)'),
  row('neg[.<ftz:ftz>].<t:float>', '=t t', '-$a'),
  row('abs[.<ftz:ftz>].<t:float>', '=t t', 'std::fabs($a)'),
  row('<f:min|max>[.<ftz:ftz>].<t:float>', '=t t t', '$f($a, $b)'),
  row('<f:min|max>[.<ftz:ftz>].NaN.<t:f32>', '=t t t', '$f_nan($a, $b)'),
  row('copysign.<t:float>', '=t t t', 'std::copysign($b, $a)'),

  row('fma.rn.<t:half|pair>', '=t t t t', 'fma_rn($a, $b, $c)'),
  row('<f:min|max>.<t:half|pair>', '=t t t', '$f($a, $b)'),
  row('<f:min|max>.NaN.<t:half|pair>', '=t t t', '$f_nan($a, $b)'),

  row('ex2.approx.ftz.f32', '=f32 f32', 'emulation::ex2_approx_ftz($a)'),
  row('rcp.approx.ftz.f64', '=f64 f64', 'rcp_approx_ftz($a)'),
];

/** @type {readonly Row[]} */
const BITS = [
  ...Object.entries(LOGIC).map(([name, operator]) => {
    return row(`${name}.<t:pred|bits>`, '=t t t', `$a ${operator} $b`);
  }),
  row('not.pred', '=pred pred', '!$a'),
  row('not.<t:bits>', '=t t', '~$a'),
  row('shl.<t:bits>', '=t t u32', 'shl($a, $b)'),
  row('shr.<t:bits|integer>', '=t t u32', 'shr($a, $b)'),
  row('shf.<f:l|r>.wrap.b32', '=b32 b32 b32 u32', 'shf_$f($a, $b, $c & 31)'),
  row('shf.<f:l|r>.clamp.b32', '=b32 b32 b32 u32', 'shf_$f($a, $b, $c < 32 ? $c : 32)'),
  row('prmt.b32', '=b32 b32 b32 b32', 'prmt($a, $b, $c)'),
  row('bfe.<t:s32|u32|s64|u64>', '=t t u32 u32', 'bfe($a, $b, $c)'),
  row('bfi.<t:b32|b64>', '=t t t u32 u32', 'bfi($a, $b, $c, $d)'),
  row('lop3.b32', '=b32 b32 b32 b32 u32', 'lop3($a, $b, $c, $d)'),
  row('popc.<t:b32|b64>', '=u32 t', 'static_cast<uint32_t>(std::popcount($a))'),
  row('clz.<t:b32|b64>', '=u32 t', 'static_cast<uint32_t>(std::countl_zero($a))'),
  row('bfind.<t:u32|u64>', '=u32 t', 'static_cast<uint32_t>(std::bit_width($a)) - 1'),
  row('bfind.shiftamt.<t:u32|u64>', '=u32 t', '$a == 0 ? 0xffffffffu : static_cast<uint32_t>(std::countl_zero($a))'),
  row('brev.<t:b32|b64>', '=t t', 'brev($a)'),
];

/** @type {readonly Row[]} */
const CHOICES = [
  row('selp.<t:bits|integer|float>', '=t t t pred', '$c ? $a : $b'),
  ...Object.entries(COMPARISONS).flatMap(([name, code]) => [
    row(`setp.${name}[.<ftz:ftz>].<t:bits|integer|float>`, '=pred t t', code),
    row(`setp.${name}[.<ftz:ftz>].<t:bits|integer|float>`, '=pred|pred t t', `with_opposite(${code})`),
    ...Object.entries(LOGIC).map(([logic, operator]) => {
      return row(
        `setp.${name}.${logic}[.<ftz:ftz>].<t:bits|integer|float>`,
        '=pred t t pred',
        `(${code}) ${operator} $c`,
      );
    }),
  ]),
  row('testp.<f:finite|infinite|number|notanumber>.<t:float>', '=pred t', 'is_$f($a)'),
];

/** @type {readonly Row[]} */
const CONVERSIONS = [
  row('cvt.<t:anyInteger>.<s:anyInteger>', '=t s', 'static_cast<$T>($a)'),
  row('cvt.<f:rni|rzi|rmi|rpi>[.<ftz:ftz>].<t:anyInteger>.<s:float>', '=t s', 'to_integer<$T>(round_$f($a))'),
  row('cvt.rn.<t:float>.<s:anyInteger>', '=t s', 'static_cast<$T>($a)'),
  row('cvt.<f:rni|rzi|rmi|rpi>[.<ftz:ftz>].f32.f32', '=f32 f32', 'round_$f($a)'),
  row('cvt.<f:rni|rzi|rmi|rpi>.f64.f64', '=f64 f64', 'round_$f($a)'),
  row('cvt[.<ftz:ftz>].f64.f32', '=f64 f32', '$a'),
  row('cvt.rn[.<ftz:ftz>].f32.f64', '=f32 f64', 'static_cast<float>($a)'),
  row('cvt.f32.<t:half>', '=f32 t', 'static_cast<float>($a)'),
  row('cvt.rn.<t:half>.f32', '=t f32', '$T($a)'),
  row('cvt.rn.<t:pair>.f32', '=t f32 f32', '$T{$b, $a}'), // the first operand is the high half
];

/** @type {readonly Row[]} */
const THREADS = [
  row('vote.sync.ballot.b32', '=b32 pred b32', '__ballot_sync($b, $a)'),
  row('vote.sync.any.pred', '=pred pred b32', '__any_sync($b, $a) != 0'),
  row('vote.sync.all.pred', '=pred pred b32', '__all_sync($b, $a) != 0'),
  row('vote.sync.uni.pred', '=pred pred b32', 'vote_uni($a, $b)'),
  row('match.any.sync.<t:b32|b64>', '=b32 t b32', 'match_any($a, $b)'),
  row('redux.sync.<f:add|min|max>.<t:s32|u32>', '=t t b32', 'redux($a, $b, []($T x, $T y) { return $f(x, y); })'),
  ...Object.entries(LOGIC).map(([name, operator]) => {
    return row(`redux.sync.${name}.<t:b32>`, '=t t b32', `redux($a, $b, []($T x, $T y) { return x ${operator} y; })`);
  }),
  row('activemask.b32', '=b32', '__activemask()'),
  row('shfl.sync.<f:up|down|bfly|idx>.b32', '=b32 b32 b32 b32 b32', 'shfl_$f($a, $b, $c, $d).first'),
  row('shfl.sync.<f:up|down|bfly|idx>.b32', '=b32|pred b32 b32 b32 b32', 'shfl_$f($a, $b, $c, $d)'),
  row('bar.red.popc.u32', '=u32 barrier pred', 'static_cast<uint32_t>(__syncthreads_count($b))'),
  row('bar.red.<f:and|or>.pred', '=pred barrier pred', '__syncthreads_$f($b) != 0'),
  row('bar.sync', 'barrier', '__syncthreads()'),
  row('barrier[.cta].sync[.aligned]', 'barrier', '__syncthreads()'),
  row('bar.warp.sync', 'b32', '__syncwarp($a)'),
  row('nanosleep.u32', 'u32', '__nanosleep($a)'),
  row('trap', '', '__trap()'),
  // Threads of the emulation see each other's writes at once.
  row('membar.<f:cta|gl|sys>', '', ''),
  row('fence[.<f:sc|acq_rel>].<g:scope>', '', ''),
];

/** @type {readonly Row[]} */
export const ROWS = [...ARITHMETIC, ...BITS, ...CHOICES, ...CONVERSIONS, ...THREADS];
